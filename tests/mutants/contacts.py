"""Rules of the contact cache, broken by hand."""

from __future__ import annotations

from tests.mutants.mutants import Mutant

CONTACTS = (
    Mutant(
        name="the patience for a contact counted from the attempt",
        file="worker/event_integration/building.py",
        old="            left_s = max(0.0, ENRICH_WITHIN_S - (attempt.started_s - delivery.event.read_at_s))\n",
        new="            left_s = ENRICH_WITHIN_S\n",
        killers=("tests/component/test_enrichment.py::test_a_burst_of_strangers_waits_once_and_not_one_behind_the_other",),
    ),
    Mutant(
        name="a broker asked before the store",
        file="worker/contact_metadata_cache/cache.py",
        old="            entry, now_s = await self._loaded(key), self._clock()\n",
        new="            entry, now_s = self._memory.get(key) or Entry(), self._clock()\n",
        killers=("tests/component/test_contact_lookups.py::test_what_another_worker_has_found_out_is_not_asked_again",),
    ),
    Mutant(
        name="as many asked about as there are",
        file="worker/contact_metadata_cache/asking.py",
        old="        self.slots = anyio.Semaphore(AT_ONCE)\n",
        new="        self.slots = anyio.Semaphore(IN_LINE)\n",
        killers=("tests/component/test_contact_lookups.py::test_at_most_four_are_asked_about_for_an_instance_and_sixteen_at_a_broker",),
    ),
    Mutant(
        name="a failure takes what was answered before",
        file="worker/contact_metadata_cache/entry.py",
        old="        return replace(self, failed_s=now_s)\n",
        new="        return replace(self, url=None, answered_s=NEVER_S, failed_s=now_s)\n",
        killers=("tests/component/test_contact_metadata_cache.py::test_a_stale_picture_that_is_not_to_be_had_anew_is_told_for_a_day",),
    ),
)
