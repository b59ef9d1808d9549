"""Rules of sessions, broken by hand."""

from __future__ import annotations

from tests.mutants.mutants import Mutant

SESSIONS = (
    Mutant(
        name="a receipt before the append",
        file="worker/websocket/filing.py",
        old="            await self._append(portion)\n",
        new="            self._note_durable(portion)\n            await self._acknowledge()\n            await self._append(portion)\n",
        killers=("tests/component/test_sessions.py::test_no_receipt_leaves_before_the_append_has_answered",),
    ),
    Mutant(
        name="a receipt for a shard of somebody else",
        file="worker/websocket/filing.py",
        old=" and desk.owns(self.shard)\n",
        new="\n",
        killers=(
            "tests/component/test_sessions.py::test_no_receipt_leaves_while_the_shard_is_not_ours_and_all_do_once_it_is",
            "tests/component/test_sockets.py::test_only_the_owner_sends_receipts",
        ),
    ),
    Mutant(
        name="a frame dropped that could not be appended",
        file="worker/websocket/filing.py",
        old="            await self._again_later(str(exc))\n            return\n",
        new="            await self._again_later(str(exc))\n",
        killers=(
            "tests/component/test_sessions.py::test_a_stall_closes_without_a_receipt_and_what_was_read_is_appended_when_the_journal_is_back",
        ),
    ),
    Mutant(
        name="a place to go on from that is not durable",
        file="worker/websocket/filing.py",
        old="        self._held.append(held)\n",
        new="        self._held.append(held)\n        self._desk.bookmarks.note(self.instance.id, str(frame.event_id))\n",
        killers=(
            "tests/component/test_resume_points.py::test_what_is_not_durable_yet_is_no_place_to_go_on_from",
            "tests/component/test_resume_points.py::test_a_point_is_durable_whenever_it_is_looked_at",
        ),
    ),
    Mutant(
        name="a stream that begins anew with each process",
        file="worker/websocket/filing.py",
        old="            self._last_id = await self._desk.bookmarks.of(self.instance.id)\n",
        new="            self._last_id = None\n",
        killers=(
            "tests/component/test_resume_points.py::test_a_restart_when_the_store_has_forgotten_the_keys_delivers_nothing_twice[left]",
            "tests/component/test_resume_points.py::test_a_restart_when_the_store_has_forgotten_the_keys_delivers_nothing_twice[killed]",
        ),
    ),
    Mutant(
        name="the drop of a short connection untold",
        file="worker/websocket/chronicle.py",
        old="        elif (was_open or failures & (failures - 1) == 0) and ",
        new="        elif failures & (failures - 1) == 0 and ",
        killers=("tests/component/test_sessions_told.py::test_every_drop_of_an_open_stream_is_told_however_short_it_was",),
    ),
    Mutant(
        name="a stream that took its place taken back unasked",
        file="worker/websocket/session.py",
        old="closed.reason is CloseReason.REPLACED and not self._around.desk.owns(self.shard)",
        new="closed.reason is CloseReason.REPLACED and False",
        killers=("tests/component/test_sessions.py::test_whoever_is_replaced_asks_whether_the_shard_is_still_its_own",),
    ),
    Mutant(
        name="an offered shard not read before it is owned",
        file="worker/orchestrator/plan.py",
        old="    due = [name for name in (*ours, *offered) if name not in running]\n",
        new="    offered.clear()\n    due = [name for name in ours if name not in running]\n",
        killers=("tests/component/test_sockets.py::test_a_worker_that_leaves_to_a_successor_loses_nothing_and_leaves_no_moment_unread",),
    ),
    Mutant(
        name="time that the process slept through held against others",
        file="worker/websocket/sessions.py",
        old="min(now_s - self._swept_s, AWAKE_AT_MOST_S)",
        new="now_s - self._swept_s",
        killers=("tests/component/test_sessions_beset.py::test_a_freeze_is_no_stall_though_what_was_in_hand_is_older_than_one",),
    ),
    Mutant(
        name="full hands of some tenants stop all",
        file="worker/websocket/filing.py",
        old=" else self.sure_bytes\n",
        new=" else 0\n",
        killers=("tests/unit/test_socket_hands.py::test_however_many_tenants_are_full_another_still_has_room",),
    ),
    Mutant(
        name="a stream that forgets cut where the lease lapsed",
        file="worker/websocket/sessions.py",
        old="Event.ABORT if running.connector.wants_receipts else Event.LAPSED",
        new="Event.ABORT",
        killers=(
            "tests/component/test_sessions_ending.py::test_what_a_gateway_that_forgets_has_sent_already_is_read_also_where_the_lease_is_lost",
        ),
    ),
)
