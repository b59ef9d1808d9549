"""The plan: what to start and what to stop, whatever is owned, offered, wanted and running."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from worker.domain.ids import InstanceId, Shard
from worker.orchestrator.plan import Place, Plan, Wanted, plan

HERE, THERE = Place("main", "phone"), Place("main", "other-phone")
names = st.sampled_from([InstanceId(f"i{n}") for n in range(8)])
shards = st.frozensets(st.integers(0, 3).map(Shard))
places = st.sampled_from([HERE, THERE])
wanteds = st.builds(Wanted, shard=st.integers(0, 3).map(Shard), place=places, may_prepare=st.booleans())
worlds = st.fixed_dictionaries(
    {
        "wanted": st.dictionaries(names, wanteds),
        "owned": shards,
        "prepared": shards,
        "running": st.dictionaries(names, places),
        "room": st.integers(-2, 8),
    }
)


def wanted(shard: int, *, place: Place = HERE, may_prepare: bool = True) -> Wanted:
    return Wanted(Shard(shard), place, may_prepare)


A, B, C = InstanceId("a"), InstanceId("b"), InstanceId("c")


def test_what_is_wanted_of_an_owned_shard_is_started() -> None:
    assert plan({A: wanted(1), B: wanted(2)}, owned={Shard(1)}, prepared=(), running={}, room=9) == Plan((A,), (), 0)


def test_what_is_offered_is_read_before_it_is_ours_unless_its_gateway_bears_only_one_reader() -> None:
    both = {A: wanted(1), B: wanted(1, may_prepare=False)}
    assert plan(both, owned=(), prepared={Shard(1)}, running={}, room=9) == Plan((A,), (), 0)
    assert plan(both, owned={Shard(1)}, prepared={Shard(1)}, running={A: HERE}, room=9) == Plan((B,), (), 0)


def test_what_is_neither_ours_nor_offered_nor_wanted_any_more_is_stopped() -> None:
    running = {A: HERE, B: HERE, C: HERE}
    assert plan({A: wanted(1), B: wanted(2)}, owned={Shard(1)}, prepared=(), running=running, room=9) == Plan((), (B, C), 0)


def test_an_instance_that_has_moved_is_stopped_and_started_once_it_is_over() -> None:
    moved = {A: wanted(1, place=THERE)}
    assert plan(moved, owned={Shard(1)}, prepared=(), running={A: HERE}, room=9) == Plan((), (A,), 0)
    assert plan(moved, owned={Shard(1)}, prepared=(), running={}, room=9) == Plan((A,), (), 0)


def test_without_room_for_all_what_is_ours_comes_first_and_the_rest_is_counted() -> None:
    three = {A: wanted(2), B: wanted(1), C: wanted(1)}
    assert plan(three, owned={Shard(1)}, prepared={Shard(2)}, running={}, room=2) == Plan((B, C), (), 1)
    assert plan(three, owned={Shard(1)}, prepared={Shard(2)}, running={}, room=0) == Plan((), (), 3)


@given(worlds)
def test_whatever_the_world_the_plan_fits_it(world: dict[str, object]) -> None:
    found = plan(**world)  # type: ignore[arg-type]
    wants, running = world["wanted"], world["running"]
    assert isinstance(wants, dict)
    assert isinstance(running, dict)
    owned, prepared, room = world["owned"], world["prepared"], world["room"]
    assert isinstance(owned, frozenset)
    assert isinstance(prepared, frozenset)
    assert isinstance(room, int)
    assert len(found.start) <= max(0, room)
    assert not set(found.start) & set(running)
    assert set(found.stop) <= set(running)
    for name in found.start:
        assert wants[name].shard in owned or (wants[name].shard in prepared and wants[name].may_prepare)
    stays = set(running) - set(found.stop)
    for name in stays:
        assert wants[name].place == running[name]
    should = {n for n, w in wants.items() if w.shard in owned or (w.shard in prepared and w.may_prepare)}
    assert should - set(running) - set(found.start) == set() or found.over == len(should - set(running)) - len(found.start) > 0


@given(worlds)
def test_carried_out_with_room_enough_the_plan_leaves_nothing_to_do(world: dict[str, object]) -> None:
    world["room"] = 100
    for _ in range(2):  # one that has moved is started in the second round
        found = plan(**world)  # type: ignore[arg-type]
        wants, running = world["wanted"], world["running"]
        assert isinstance(wants, dict)
        assert isinstance(running, dict)
        world["running"] = {n: p for n, p in running.items() if n not in found.stop} | {n: wants[n].place for n in found.start}
    assert plan(**world) == Plan((), (), 0)  # type: ignore[arg-type]
