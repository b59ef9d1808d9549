"""The tracker of one shard's journal against a naive model: prefix, facts, what was freed, a checkpoint in doubt, a new tenure."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.domain.ids import Position, Shard, TenantId, Token, WebhookId
from worker.journal.completion import Completion
from worker.journal.port import Checkpoint, Done, Freed, Progress

SHARD, ACME, TOKEN = Shard(3), TenantId("acme"), Token(7)
A, B, C = WebhookId("a"), WebhookId("b"), WebhookId("c")


def fresh(prefix: int = 1, done: frozenset[Done] = frozenset()) -> Completion:
    return Completion(SHARD, Progress(prefix=Position(prefix), done=done, tail=Position(100)))


def begin(completion: Completion, position: int, *webhooks: WebhookId) -> list[WebhookId]:
    return list(completion.begin(Position(position), ACME, 10, webhooks))


def test_the_prefix_waits_for_the_earliest_event_and_then_passes_all_that_are_done() -> None:
    completion = fresh()
    for position in (1, 2, 3):
        begin(completion, position, A)
    completion.finish(Position(3), A)
    completion.finish(Position(2), A)
    assert (completion.prefix, completion.cursor, completion.gap, completion.open_events) == (1, 4, 3, 1)
    completion.finish(Position(1), A)
    assert (completion.prefix, completion.gap) == (4, 0)


def test_an_event_that_nobody_wants_is_complete_at_once_and_freed() -> None:
    completion = fresh()
    assert begin(completion, 1) == []
    assert completion.prefix == 2
    assert completion.checkpoint(TOKEN).freed == {ACME: Freed(1, 10)}
    assert completion.tally.completed == 1


def test_a_checkpoint_says_what_is_done_beyond_the_prefix_whole_and_in_part() -> None:
    completion = fresh()
    for position in (1, 2, 3):
        begin(completion, position, A, B)
    completion.finish(Position(2), A)
    completion.finish(Position(3), A)
    completion.finish(Position(3), B)
    checkpoint = completion.checkpoint(TOKEN)
    assert checkpoint.prefix == 1
    assert set(checkpoint.done) == {Done(Position(2), A), Done(Position(3), None)}
    assert checkpoint.freed == {ACME: Freed(1, 10)}


def test_facts_are_named_for_forgetting_once_the_prefix_has_passed_them() -> None:
    completion = fresh()
    for position in (1, 2):
        begin(completion, position, A)
    completion.finish(Position(2), A)
    completion.saved(completion.checkpoint(TOKEN))
    completion.finish(Position(1), A)
    checkpoint = completion.checkpoint(TOKEN)
    assert (checkpoint.prefix, list(checkpoint.behind)) == (3, [Done(Position(2), None)])
    completion.saved(checkpoint)
    assert not completion.has_moved
    assert not completion.checkpoint(TOKEN).behind


def test_a_checkpoint_in_doubt_is_said_again_word_by_word_and_what_came_since_follows() -> None:
    completion = fresh()
    begin(completion, 1, A)
    begin(completion, 2, A)
    completion.finish(Position(1), A)
    first = completion.checkpoint(TOKEN)
    assert completion.is_in_doubt
    completion.finish(Position(2), A)
    assert completion.checkpoint(TOKEN) is first
    completion.saved(first)
    assert not completion.is_in_doubt
    assert completion.has_moved
    second = completion.checkpoint(TOKEN)
    assert (second.number, second.prefix, second.freed) == (first.number + 1, 3, {ACME: Freed(1, 10)})


def test_under_a_new_token_what_is_in_doubt_is_said_anew() -> None:
    completion = fresh()
    begin(completion, 1, A)
    completion.finish(Position(1), A)
    first = completion.checkpoint(TOKEN)
    again = completion.checkpoint(Token(TOKEN + 1))
    assert (again.token, again.prefix, again.number) == (TOKEN + 1, first.prefix, first.number + 1)


def test_a_new_tenure_serves_only_what_no_fact_speaks_of() -> None:
    completion = fresh(5, frozenset({Done(Position(5), A), Done(Position(6), None), Done(Position(7), A), Done(Position(7), B)}))
    assert begin(completion, 5, A, B) == [B]
    assert begin(completion, 6, A, B) == []
    assert begin(completion, 7, A, B) == []
    assert begin(completion, 8, A) == [A]
    assert completion.prefix == 5
    assert completion.begun_positions() == {5}
    assert completion.checkpoint(TOKEN).freed == {ACME: Freed(1, 10)}, "6 had been freed with its fact, 7 only parked"
    assert completion.tally.completed == completion.tally.parked == 1


def test_what_is_parked_relieves_the_journal_without_a_fact_of_its_own() -> None:
    completion = fresh()
    begin(completion, 1, A, B)
    completion.relieve(Position(1), A)
    assert completion.begun_positions() == {1}
    assert list(completion.checkpoint(TOKEN).done) == [], "the park has written it"
    completion.relieve(Position(1), B)
    assert completion.prefix == 2
    assert completion.tally.parked == 1


def test_an_event_whose_last_delivery_died_is_tallied_as_dead_unless_something_of_it_is_parked() -> None:
    completion = fresh()
    begin(completion, 1, A)
    begin(completion, 2, A, B)
    begin(completion, 3, A)
    completion.relieve(Position(1), A, dead=True)
    completion.relieve(Position(2), A, dead=True)
    completion.relieve(Position(2), B)
    completion.finish(Position(3), A, dead=True)
    assert (completion.tally.dead, completion.tally.parked, completion.tally.completed) == (2, 1, 0)


def test_positions_that_never_held_an_event_are_counted_as_gaps() -> None:
    completion = fresh()
    begin(completion, 1, A)
    begin(completion, 5, A)
    assert (completion.tally.gaps, completion.cursor) == (3, 6)


def test_an_outcome_that_is_unknown_or_comes_twice_changes_nothing() -> None:
    completion = fresh()
    begin(completion, 1, A, B)
    for _ in range(2):
        completion.finish(Position(1), A)
    completion.finish(Position(1), C)
    completion.finish(Position(9), A)
    completion.relieve(Position(1), A)
    completion.relieve(Position(9), A)
    assert not completion.is_open(Position(1), A)
    assert completion.is_open(Position(1), B)
    assert not completion.is_open(Position(9), A)
    assert list(completion.checkpoint(TOKEN).done) == [Done(Position(1), A)]


@dataclass
class NaiveStore:
    """What a store would hold: prefix, facts, and what has been freed in all."""

    prefix: int = 1
    done: set[Done] = field(default_factory=set)
    freed: int = 0
    last: tuple[int, int] = (0, 0)

    def save(self, checkpoint: Checkpoint) -> None:
        self.prefix = max(self.prefix, checkpoint.prefix)
        self.done |= {fact for fact in checkpoint.done if fact.position >= self.prefix}
        self.done -= {fact for fact in checkpoint.behind if fact.position < self.prefix}
        if (checkpoint.token, checkpoint.number) > self.last:
            self.last = (checkpoint.token, checkpoint.number)
            self.freed += sum(freed.events for freed in checkpoint.freed.values())


class Tracking(RuleBasedStateMachine):
    """Reads, outcomes, parks, checkpoints answered and lost, crashes; a set of what is left for each event is the truth."""

    def __init__(self) -> None:
        super().__init__()
        self.store = NaiveStore()
        self.token = 1
        self.completion = fresh()
        self.left: dict[int, set[WebhookId]] = {}
        """The truth of this tenure: what each event that was read still waits for."""
        self.wanted: dict[int, list[WebhookId]] = {}

    @rule(webhooks=st.lists(st.sampled_from([A, B, C]), unique=True), gap=st.sampled_from([0, 0, 0, 2]))
    def read(self, webhooks: list[WebhookId], gap: int) -> None:
        position = self.completion.cursor
        if position not in self.wanted:
            if position <= max(self.wanted, default=0):
                position = Position(min(known for known in self.wanted if known > position))
            else:
                position = Position(position + gap)
                self.wanted[position] = webhooks
        self.left[position] = set(self.completion.begin(position, ACME, 10, self.wanted[position]))

    @rule(data=st.data(), is_parked=st.booleans())
    def end_one(self, data: st.DataObject, is_parked: bool) -> None:
        waiting = sorted((position, webhook) for position, left in self.left.items() for webhook in left)
        if not waiting:
            return
        position, webhook = data.draw(st.sampled_from(waiting))
        self.left[position].discard(webhook)
        if is_parked:
            self.store.done.add(Done(Position(position), webhook))
            self.completion.relieve(Position(position), webhook)
        else:
            self.completion.finish(Position(position), webhook)

    @rule()
    def checkpoint(self) -> None:
        checkpoint = self.completion.checkpoint(Token(self.token))
        self.store.save(checkpoint)
        self.completion.saved(checkpoint)

    @rule(has_arrived=st.booleans())
    def checkpoint_in_doubt(self, has_arrived: bool) -> None:
        checkpoint = self.completion.checkpoint(Token(self.token))
        if has_arrived:
            self.store.save(checkpoint)

    @precondition(lambda self: bool(self.wanted))
    @rule()
    def crash(self) -> None:
        self.token += 1
        done = frozenset(fact for fact in self.store.done if fact.position >= self.store.prefix)
        self.completion = Completion(SHARD, Progress(prefix=Position(self.store.prefix), done=done, tail=Position(10_000)))
        self.left = {}

    @invariant()
    def the_prefix_is_below_whatever_waits(self) -> None:
        open_positions = [position for position, left in self.left.items() if left]
        assert self.completion.prefix == min(open_positions, default=self.completion.cursor)
        assert self.completion.open_events == len(open_positions)

    @invariant()
    def the_store_never_knows_more_than_is_true(self) -> None:
        for position, left in self.left.items():
            if left:
                assert position >= self.store.prefix
                assert Done(Position(position), None) not in self.store.done
                assert not any(Done(Position(position), webhook) in self.store.done for webhook in left)

    def teardown(self) -> None:
        """In the end all is done, saved, freed once and forgotten."""
        while any(position >= self.completion.cursor for position in self.wanted):
            self.read([], 0)
        for position, left in self.left.items():
            for webhook in sorted(left):
                self.completion.finish(Position(position), webhook)
        self.left = {}
        for _ in range(3):
            self.checkpoint()
        assert self.store.prefix == self.completion.cursor
        assert self.store.freed == len(self.wanted)
        assert not {fact for fact in self.store.done if fact.position >= self.store.prefix}
        assert not self.completion.has_moved


TestTracking = Tracking.TestCase
