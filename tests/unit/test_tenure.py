"""How long a lease may be believed, and when guarded work may begin."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.client_registry.tenure import Tenure, TenureState, valid_until_s
from worker.domain.ids import Position, Shard, Token
from worker.journal.completion import Completion
from worker.journal.port import Progress


def tenure(until_s: float) -> Tenure:
    progress = Progress(prefix=Position(1), done=frozenset(), tail=Position(1))
    return Tenure(Shard(0), Token(1), Completion(Shard(0), progress), granted_at_s=0.0, valid_until_s=until_s)


def test_fifteen_seconds_are_believed_for_eleven_point_eighty_five() -> None:
    assert valid_until_s(100.0, 15.0) == 100.0 + 0.99 * 15.0 - 3.0


@given(st.floats(0, 1e6), st.floats(0.1, 3_600))
def test_a_lease_is_believed_for_less_than_the_store_keeps_it_and_for_some_time(sent_at_s: float, ttl_s: float) -> None:
    until_s = valid_until_s(sent_at_s, ttl_s)
    assert sent_at_s < until_s < sent_at_s + ttl_s


def test_guarded_work_may_begin_while_active_and_valid_only() -> None:
    it = tenure(10.0)
    assert it.may_write(9.9)
    assert not it.may_write(10.0)
    for state in (TenureState.SUSPENDED, TenureState.ENDED):
        it.state = state
        assert not it.may_write(5.0)


def test_its_repr_says_who_it_is_and_how_it_stands() -> None:
    assert repr(tenure(1.0)) == "<Tenure shard=0 token=1 active open=0>"
