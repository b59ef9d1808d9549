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
        old="        member = Member(**known)\n",
        new="        member = Member(**told)\n",
        killers=("tests/unit/test_announcements.py::test_a_field_of_a_newer_release_is_left_out_and_the_rest_counts",),
    ),
    Mutant(
        name="an announcement is believed whatever stands in its fields",
        file="worker/adapters/redis_leases.py",
        old="    return member if is_sound else None\n",
        new="    return member\n",
        killers=("tests/contract/test_redis_strays.py::test_an_announcement_with_a_wrong_type_in_it_is_nobodys[revision-12]",),
    ),
    Mutant(
        name="a company that is unknown at the signal is nobody",
        file="worker/shutdown.py",
        old="        await self._heirs.seek(until_s=now_s + self._phase_deadline.left_s(now_s) / 3, is_over=self._is_over)\n",
        new="",
        killers=(
            "tests/component/test_heirs.py::test_a_store_that_is_away_at_the_signal_does_not_make_a_worker_leave_as_if_alone[1.5-refuses]",
        ),
    ),
    Mutant(
        name="the journal is read no more while the company is unknown",
        file="worker/shutdown.py",
        old="        if self._heirs.members is not None and not self._heirs.of:\n",
        new="        if not self._heirs.of:\n",
        killers=("tests/component/test_heirs.py::test_meanwhile_the_journal_is_read_and_delivered_as_ever",),
    ),
    Mutant(
        name="who could not announce itself while the store was away is taken for gone",
        file="worker/client_registry/heirs.py",
        old="            if self.of or not registry.presence.may_miss_some:\n",
        new="            if True:\n",
        killers=("tests/component/test_heirs.py::test_who_could_not_announce_itself_while_the_store_was_away_is_waited_for",),
    ),
    Mutant(
        name="a shard that does not exist is taken from whoever offers it",
        file="worker/client_registry/handing.py",
        old=" if 0 <= offer.shard < shards]\n",
        new="]\n",
        killers=("tests/component/test_sharing.py::test_a_shard_that_does_not_exist_is_never_owned_whoever_offers_it",),
    ),
    Mutant(
        name="an agent that does not answer is believed to want us gone",
        file="worker/adapters/ecs.py",
        old="        return None if told is None else {STOPPED: True, RUNNING: False}.get(told.desired_status)\n",
        new="        return told is None or {STOPPED: True, RUNNING: False}.get(told.desired_status)\n",
        killers=("tests/contract/test_ecs_metadata.py::test_elsewhere_nobody_is_asked_and_nothing_is_said",),
    ),
)
