"""What workers of two releases tell each other, and what each says of its own end, broken by hand."""

from __future__ import annotations

from tests.mutants.mutants import Mutant

ROTATIONS = (
    Mutant(
        name="a larger number of another family counts as newer",
        file="worker/client_registry/rotation.py",
        old="    kin = [m.revision for m in ready if m.family == me.family]\n",
        new="    kin = [m.revision for m in ready]\n",
        killers=("tests/unit/test_rotation.py::test_a_larger_number_of_another_family_is_not_newer",),
    ),
    Mutant(
        name="who leaves too counts as an heir",
        file="worker/client_registry/rotation.py",
        old="    ready = [m for m in members if m.owner != me.owner and m.ready and not m.draining]\n",
        new="    ready = [m for m in members if m.owner != me.owner and m.ready]\n",
        killers=("tests/unit/test_rotation.py::test_who_is_not_ready_or_leaves_too_does_not_come_after_us[gone1]",),
    ),
    Mutant(
        name="a stale holder is believed of oneself",
        file="worker/client_registry/roll.py",
        old='    return {"shard": shard, "owner": None if holder == owner else holder, **ELSEWHERE}\n',
        new='    return {"shard": shard, "owner": holder, **ELSEWHERE}\n',
        killers=("tests/component/test_roll.py::test_of_itself_a_worker_says_what_is_true_now_also_without_a_store",),
    ),
    Mutant(
        name="an announcement is read for fields one does not know",
        file="worker/adapters/redis_leases.py",
        old="        return Member(**{field: told[field] for field in MEMBER_FIELDS if field in told})\n",
        new="        return Member(**told)\n",
        killers=("tests/unit/test_announcements.py::test_a_field_of_a_newer_release_is_left_out_and_the_rest_counts",),
    ),
    Mutant(
        name="an agent that does not answer is believed to want us gone",
        file="worker/adapters/ecs.py",
        old="        return None if told is None else {STOPPED: True, RUNNING: False}.get(told.desired_status)\n",
        new="        return told is None or {STOPPED: True, RUNNING: False}.get(told.desired_status)\n",
        killers=("tests/contract/test_ecs_metadata.py::test_elsewhere_nobody_is_asked_and_nothing_is_said",),
    ),
)
