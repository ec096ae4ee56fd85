"""What a run misses and what it does about it, without threads, clock and store: facts go in, requests and gaps come out."""

from dataclasses import dataclass, field
from typing import cast
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshobs.collector.follow import backfill
from meshobs.collector.follow.fetcher import Fetcher
from meshobs.collector.follow.reader import Ended, FlowRequest, FlowSelection, Purpose, RelayReader
from meshobs.collector.follow.recovery import ATTACH_SECONDS, CONNECTED, NAMED_SECONDS, Recovery
from meshobs.collector.hubble.stream import OK, StreamStatus
from meshobs.collector.options import CollectOptions
from meshobs.collector.write.gap import Gap
from meshobs.times import SECOND

A, B = "west/a", "west/b"
# When the run begins, and a moment of an earlier run.
START, EARLIER = 1_000 * SECOND, 900 * SECOND


@dataclass
class Stored:
    """A store that knows one moment, and what it was asked."""

    until: int | None = None
    asked: list[tuple[str, int]] = field(default_factory=list)

    def __call__(self, node: str, before: int) -> int | None:
        self.asked.append((node, before))
        return self.until


def made(*readers: str, positions: dict[str, int] | None = None, until: int | None = None) -> Recovery:
    """Return the recovery of a run that begins at START."""
    return Recovery(readers or ("west",), positions or {}, START, Stored(until))


def asked(recovery: Recovery, now: float, reader: str = "west") -> dict[str, int]:
    """Return node -> position of all that is due."""
    return {node: at for one in recovery.due(reader, (), now) for node, at in one.positions.items()}


def following(recovery: Recovery, *nodes: str, reader: str = "west") -> None:
    """Let flows of nodes come."""
    for node in nodes:
        recovery.on_stored(reader, node, START + SECOND)


def test_the_next_run_goes_on_where_the_last_one_ended() -> None:
    """What was stored earlier is missing from there on, and fetched once the stream has the node; others are not."""
    recovery = made(positions={A: EARLIER})
    recovery.go_on("west", [A, B], now=10)

    assert asked(recovery, 10 + ATTACH_SECONDS - 0.1) == {}
    (request,) = recovery.due("west", (), 10 + ATTACH_SECONDS)
    assert request == backfill.Backfill(EARLIER - backfill.OVERLAP, {A: EARLIER})


def test_what_a_ring_ended_with_at_the_start_is_a_position() -> None:
    """The first run fetches from there what happens before its stream has a node; an earlier position comes first."""
    recovery = made(positions={A: EARLIER})
    for node in (A, B):
        recovery.on_listed("west", node, CONNECTED, now=0)
    recovery.go_on("west", [A], now=0)
    recovery.mark("west", {A: START - 2, B: START - 1}, now=0)

    assert asked(recovery, ATTACH_SECONDS) == {A: EARLIER, B: START - 1}


def test_a_run_that_is_killed_at_once_is_gone_on_from_its_start() -> None:
    """Where the ring ended then is a position before anything is fetched; where an earlier run ended that one stays."""
    recovery = made(positions={A: EARLIER})
    for node in (A, B, "west/empty"):
        recovery.on_listed("west", node, CONNECTED, now=0)
    recovery.go_on("west", [A], now=0)
    recovery.mark("west", {A: START - 2, B: START - 1}, now=0)
    following(recovery, A, B)

    assert recovery.fresh() == {"west": {B: START - 1}}


def test_a_call_under_way_is_not_made_twice() -> None:
    """Nodes that are being fetched are left out."""
    recovery = made(positions={A: EARLIER, B: EARLIER})
    recovery.go_on("west", [A, B], now=0)

    (request,) = recovery.due("west", {A}, 100)
    assert set(request.positions) == {B}


def test_each_reader_asks_for_its_own_troubles() -> None:
    """One reader's trouble is none of another's."""
    recovery = made("west", "east", positions={A: EARLIER})
    recovery.go_on("west", [A], now=0)

    assert asked(recovery, 100, "east") == {}


def test_the_position_stands_still_while_something_is_missing() -> None:
    """A run that is killed then goes on from before the hole; when it is closed, from the newest flow."""
    recovery = made(until=START)
    following(recovery, A, B)
    assert recovery.fresh() == {"west": {A: START + SECOND, B: START + SECOND}}
    assert recovery.fresh() == {}

    recovery.on_lost("west", A, "away", START + 2 * SECOND)
    for node in (A, B):
        recovery.on_stored("west", node, START + 9 * SECOND)
    assert recovery.fresh() == {"west": {B: START + 9 * SECOND}}

    recovery.on_attached("west", A, now=50)
    assert asked(recovery, 100) == {A: START}
    assert recovery.on_fetched("west", {A: START}, {A: START}) == {}
    assert recovery.fresh() == {"west": {A: START + 9 * SECOND}}


def test_flows_that_come_late_do_not_set_a_position_back() -> None:
    """What is fetched lies before what is followed."""
    recovery = made()
    following(recovery, A)
    recovery.on_stored("west", A, EARLIER)

    assert recovery.positions == {A: START + SECOND}


def test_a_node_that_is_away_is_not_asked_until_it_is_back() -> None:
    """It is due when it is back: soon where the stream names it, later where only the list of nodes does."""
    recovery = made(until=START)
    following(recovery, A, B)
    for node in (A, B):
        recovery.on_lost("west", node, "away", START + 2 * SECOND)
    assert recovery.states == {"west": {A: "NODE_UNAVAILABLE", B: "NODE_UNAVAILABLE"}}
    assert asked(recovery, 1e9) == {}

    recovery.on_attached("west", A, now=50)
    recovery.on_listed("west", B, CONNECTED, now=50)
    assert recovery.states == {"west": {A: CONNECTED, B: CONNECTED}}
    assert asked(recovery, 50 + NAMED_SECONDS) == {A: START}
    assert asked(recovery, 50 + ATTACH_SECONDS) == {A: START, B: START}


def test_a_node_that_the_list_shows_away_waits_again() -> None:
    """A trouble that was due is not any more; one that is seen connected twice does not wait longer."""
    recovery = made(until=START)
    following(recovery, A)
    recovery.on_lost("west", A, "away", START)
    recovery.on_listed("west", A, CONNECTED, now=50)
    recovery.on_listed("west", A, CONNECTED, now=54)
    assert asked(recovery, 50 + ATTACH_SECONDS) == {A: START}
    recovery.on_listed("west", A, "NODE_UNAVAILABLE", now=56)

    assert asked(recovery, 1e9) == {}


def test_the_position_is_taken_from_before_the_failure() -> None:
    """A Relay tells of it late, and the node's clock may lag; only a first failure counts until it is mended."""
    stored = Stored(EARLIER)
    recovery = Recovery(["west"], {}, START, stored)
    following(recovery, A)
    for lag in (5 * SECOND, 3 * SECOND, 4 * SECOND):
        recovery.on_lag(A, lag)
    recovery.on_lost("west", A, "away", START + 10 * SECOND)
    recovery.on_lost("west", A, "still away", START + 20 * SECOND)

    assert stored.asked == [(A, START + 7 * SECOND)]
    assert recovery.troubles["west", A].position == EARLIER
    assert recovery.troubles["west", A].reason == "away"


def test_a_clock_ahead_of_ours_does_not_move_the_failure() -> None:
    """Flows from the future say nothing of when the node failed."""
    stored = Stored()
    recovery = Recovery(["west"], {}, START, stored)
    recovery.on_lag(A, -60 * SECOND)
    recovery.on_lost("west", A, "away", START + SECOND)

    assert stored.asked == [(A, START + SECOND)]


def test_a_node_of_which_nothing_is_stored_is_missing_since_the_start() -> None:
    """There is nothing else to go on from."""
    recovery = made(until=None)
    recovery.on_lost("west", A, "away", START + SECOND)

    assert recovery.troubles["west", A].position == START


def test_a_stream_that_breaks_off_loses_all_nodes_of_its_reader() -> None:
    """Another reader's go on."""
    recovery = made("west", "east", until=START)
    following(recovery, A, B)
    following(recovery, "east/a", reader="east")
    recovery.on_stream_end("west", "the Relay ended the stream", START + SECOND)

    assert set(recovery.troubles) == {("west", A), ("west", B)}


@pytest.mark.parametrize(
    ("begun", "anew"),
    [
        ([START], [False]),
        ([START, START + 5 * SECOND], [False, False]),
        ([START, START + 6 * SECOND], [False, True]),
        ([START, START + 6 * SECOND, START + 7 * SECOND], [False, True, False]),
        ([START, 0, START], [False, False, False]),
        ([START, 0, START + 6 * SECOND], [False, False, True]),
    ],
)
def test_an_agent_that_started_anew_is_noticed_once(begun: list[int], anew: list[bool]) -> None:
    """Its uptime says so; rounding does not, nor does a Relay that tells no uptime."""
    recovery = made()
    assert [recovery.on_agent(A, began) for began in begun] == anew


def test_a_flow_at_the_position_proves_that_nothing_is_missing() -> None:
    """Without one the ring is asked for its oldest flow."""
    recovery = made(positions={A: EARLIER, B: EARLIER})
    recovery.go_on("west", [A, B], now=0)
    positions = asked(recovery, 100)

    assert recovery.on_fetched("west", positions, {A: EARLIER, B: EARLIER + 1}) == {B: EARLIER}
    assert set(recovery.troubles) == {("west", B)}


@pytest.mark.parametrize(
    ("position", "oldest", "agent", "gap"),
    [
        (EARLIER, EARLIER - 1, 0, None),  # the ring goes further back: nothing happened since
        (EARLIER, EARLIER, 0, None),
        (EARLIER, EARLIER + 7, 0, (EARLIER, EARLIER + 7)),
        (EARLIER, None, START, (EARLIER, START)),  # empty since the agent began
        (EARLIER, None, 0, (EARLIER, EARLIER + 1)),
        (EARLIER, None, EARLIER - 1, (EARLIER, EARLIER + 1)),
        (0, START + 7, 0, None),  # it was empty when the run began
        (0, None, START, None),
    ],
)
def test_a_ring_that_begins_later_is_a_gap(
    position: int, oldest: int | None, agent: int, gap: tuple[int, int] | None
) -> None:
    """From what is stored to the ring's oldest flow, or to the start of the agent where it holds none."""
    recovery = made()
    recovery.on_agent(A, agent)
    recovery.on_listed("west", A, CONNECTED, now=0)
    recovery.mark("west", {A: position}, now=0)
    positions = asked(recovery, 100)

    found = recovery.on_probed("west", positions, {} if oldest is None else {A: oldest})

    assert found == ([Gap("west", A, *gap, "nothing collected it")] if gap else [])
    assert recovery.troubles == {}


@pytest.mark.parametrize(
    ("state", "lost", "gaps"), [(CONNECTED, False, 0), (CONNECTED, True, 1), ("NODE_UNAVAILABLE", False, 1)]
)
def test_what_another_reader_had_all_the_time_is_no_gap(state: str, lost: bool, gaps: int) -> None:
    """It is one where the other did not have the node, or missed something of it as well."""
    recovery = made("west", "east", until=EARLIER)
    recovery.on_listed("east", A, state, now=0)
    if lost:
        recovery.on_lost("east", A, "away", START)
        recovery.on_listed("east", A, CONNECTED, now=0)
    recovery.on_lost("west", A, "away", START)
    recovery.on_attached("west", A, now=0)

    assert len(recovery.on_probed("west", asked(recovery, 100), {A: START})) == gaps


def test_what_stays_away_is_a_gap_until_the_end() -> None:
    """From what is stored, or from the start of the run; not where the node's clock is ahead of the end."""
    recovery = made(positions={A: EARLIER, "west/ahead": START + 100 * SECOND})
    recovery.go_on("west", [A, "west/ahead"], now=0)
    recovery.on_listed("west", B, CONNECTED, now=0)
    recovery.mark("west", {}, now=0)

    assert recovery.rest(START + SECOND) == [
        Gap("west", A, EARLIER, START + SECOND, "nothing collected it"),
        Gap("west", B, START, START + SECOND, "nothing collected it"),
    ]


def test_the_end_does_not_wait() -> None:
    """What only waits for its time is fetched at once; a node that is away is not asked."""
    recovery = made(positions={A: EARLIER}, until=EARLIER)
    recovery.go_on("west", [A], now=1000)
    recovery.on_lost("west", B, "away", START)
    recovery.hurry()

    assert asked(recovery, 0) == {A: EARLIER}


def test_tails_are_those_of_nodes_without_trouble() -> None:
    """Each is fetched from its newest stored flow, or from what its ring ended with at the start; others are unknown."""
    recovery = made(until=EARLIER)
    for node in (A, B, "west/c", "west/new"):
        recovery.on_listed("west", node, CONNECTED, now=0)
    recovery.mark("west", {A: EARLIER, B: EARLIER, "west/c": EARLIER}, now=0)
    recovery.on_listed("west", "west/newer", CONNECTED, now=0)
    asked(recovery, 100)
    for node in (A, B, "west/c", "west/new"):
        recovery.on_fetched("west", {node: EARLIER}, {node: EARLIER})
    recovery.on_stored("west", A, START)
    recovery.on_lost("west", "west/c", "away", START)

    tails = {node: at for one in recovery.tails("west", recovery.states["west"]) for node, at in one.positions.items()}
    assert tails == {A: START, B: EARLIER, "west/new": 0}


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["stored", "lost", "attached", "listed", "away", "broke_off", "fetched", "probed"]),
        st.sampled_from([A, B]),
        st.integers(1, 50),
    ),
    max_size=40,
)


@given(EVENTS)
def test_whatever_happens_no_position_passes_what_is_missing(events: list[tuple[str, str, int]]) -> None:
    """The next run never goes on from behind a hole, positions never go back, and only what is back is asked for."""
    recovery = made(until=EARLIER)
    saved: dict[str, int] = {}
    for kind, node, number in events:
        at = START + number * SECOND
        open_before = {name for _, name in recovery.troubles}
        before = dict(recovery.positions)
        if kind == "stored":
            recovery.on_stored("west", node, at)
        elif kind == "lost":
            recovery.on_lost("west", node, "away", at)
        elif kind == "attached":
            recovery.on_attached("west", node, number)
        elif kind in ("listed", "away"):
            recovery.on_listed("west", node, CONNECTED if kind == "listed" else "NODE_UNAVAILABLE", number)
        elif kind == "broke_off":
            recovery.on_stream_end("west", "broken", at)
        elif kind == "fetched":
            recovery.on_fetched("west", {node: EARLIER}, {node: EARLIER})
        else:
            recovery.on_probed("west", {node: EARLIER}, {node: at})
        for name, position in recovery.fresh().get("west", {}).items():
            assert name not in open_before or ("west", name) not in recovery.troubles
            assert position >= saved.get(name, 0)
            saved[name] = position
        assert all(recovery.positions[name] >= position for name, position in before.items())
        assert asked(recovery, 1e9).keys() == {
            name for (_, name), trouble in recovery.troubles.items() if trouble.due is not None
        }


def test_tails_end_together() -> None:
    """All nodes are read to the same moment; one whose clock goes ahead to what its clock says then; unknown: no end."""
    recovery = made()
    recovery.on_lag(A, 3_000_000)
    grace = recovery.ends([A], START) - START

    recovery.on_lag(B, -60 * SECOND)

    assert 0 < grace < SECOND
    assert recovery.ends([A, B], START) >= START + 60 * SECOND
    assert recovery.ends([A, "west/silent"], START) == START + grace
    assert recovery.ends(["west/silent"], START) == 0


def test_a_late_flow_is_no_slow_clock() -> None:
    """Seconds of delay say nothing of a clock until they came again and again; the future and minutes do at once."""
    recovery = made()
    recovery.on_lag(A, 4 * SECOND)
    recovery.on_lag(B, -SECOND)
    recovery.on_lag("west/c", 240 * SECOND)
    for _ in range(10):
        recovery.on_lag("west/d", 4 * SECOND)

    assert recovery.clocks == {B: -SECOND, "west/c": 240 * SECOND, "west/d": 4 * SECOND}


def test_a_loss_right_after_an_empty_ring_is_a_gap() -> None:
    """An agent that starts anew before the run's first look back is over was seen until then, and not between."""
    recovery = made(until=START + SECOND)
    following(recovery, A)
    recovery.mark("west", {}, 0)

    recovery.on_lost("west", A, "EOF", START + 2 * SECOND)
    recovery.on_listed("west", A, CONNECTED, 3)
    positions = asked(recovery, 3 + ATTACH_SECONDS)
    gaps = recovery.on_probed("west", positions, {A: START + 9 * SECOND})

    assert positions == {A: START + SECOND}
    assert gaps == [Gap("west", A, START + SECOND, START + 9 * SECOND, "EOF")]


def test_a_node_that_is_lost_again_while_it_is_fetched() -> None:
    """What came then ends before the second loss: nothing is closed by it, and it is fetched again once it is back."""
    recovery = made(until=EARLIER)
    recovery.on_lost("west", A, "away", START)
    recovery.on_attached("west", A, now=0)
    positions = asked(recovery, 10)
    recovery.on_lost("west", A, "away again", START + SECOND)
    recovery.on_attached("west", A, now=10)

    assert recovery.on_fetched("west", positions, {A: EARLIER}) == {}
    assert recovery.on_probed("west", positions, {A: START}) == []
    assert asked(recovery, 20) == {A: EARLIER}
    assert recovery.on_fetched("west", positions, {A: EARLIER}) == {}
    assert recovery.troubles == {}


@pytest.mark.parametrize(
    ("came", "end"),
    [
        ([], 60),  # nothing: until the ring begins
        ([(10, 12), (13, 20)], 10),
        ([(10, 90)], 10),
        ([(-9, 1)], 60),  # held back by the Relay's sorting from before the loss
        ([(-9, 12), (13, 20)], 12),  # some of both: the newest is one of the new
        ([(90, 95)], 60),
    ],
)
@pytest.mark.parametrize("stays", [False, True])
def test_a_gap_ends_where_the_stream_goes_on(came: list[tuple[int, int]], end: int, stays: bool) -> None:
    """What a Relay sends after it has a node again is not missing, however late the ring is asked, or never."""
    recovery = made(until=EARLIER)
    recovery.on_lag(A, 0)
    recovery.on_lost("west", A, "away", START)
    for earliest, latest in came:
        recovery.on_followed("west", A, START + earliest * SECOND, START + latest * SECOND)
    recovery.on_listed("west", A, CONNECTED, now=0)
    positions = asked(recovery, 100)

    gaps = (
        recovery.rest(START + 60 * SECOND) if stays else recovery.on_probed("west", positions, {A: START + 60 * SECOND})
    )

    assert gaps == [Gap("west", A, EARLIER, START + end * SECOND, "away")]


def test_a_second_loss_makes_the_gap_longer() -> None:
    """What came between two losses does not end it."""
    recovery = made(until=EARLIER)
    recovery.on_lost("west", A, "away", START)
    recovery.on_followed("west", A, START + 10 * SECOND, START + 11 * SECOND)
    recovery.on_lost("west", A, "away again", START + 12 * SECOND)

    assert recovery.rest(START + 60 * SECOND) == [Gap("west", A, EARLIER, START + 60 * SECOND, "away")]


class Asked:
    """A reader that only notes what it is asked."""

    name = "west"
    asking = FlowSelection((), ())

    def __init__(self) -> None:
        self.calls: list[FlowRequest] = []

    def call(self, purpose: Purpose, positions: dict[str, int] | None = None) -> FlowRequest:
        """Return a call, as a reader does."""
        return FlowRequest(cast("RelayReader", self), purpose, 0, positions or {})

    def backfill(self, call: FlowRequest, _request: object) -> None:
        """Take a call."""
        self.calls.append(call)


def test_a_node_that_was_lost_while_it_was_fetched_is_asked_once_more_at_the_end() -> None:
    """The call under way proves nothing, and the run must not end on it: the ring still holds everything."""
    recovery, asked_for = made(until=EARLIER), Asked()
    reader = cast("RelayReader", asked_for)
    fetcher = Fetcher(CollectOptions(), recovery, Mock(), Mock())
    for at in (START, START + SECOND):
        recovery.on_lost("west", A, "away", at)
        recovery.on_attached("west", A, now=0)
        fetcher.run([reader], 10)
    fetcher.finish([reader], [], START + 9 * SECOND)

    for number in range(2):
        assert len(asked_for.calls) == number + 1
        call = asked_for.calls[number]
        call.first[A] = EARLIER
        fetcher.on_ended(Ended(call, StreamStatus(OK, "")))

    assert not fetcher.fetching
    assert recovery.rest(START + 10 * SECOND) == []


def test_a_node_that_is_being_fetched_when_the_run_ends_still_gets_its_tail() -> None:
    """That call began before the end and has nothing of the last moments; the stream had no more of them."""
    recovery, asked_for = made(until=EARLIER), Asked()
    reader = cast("RelayReader", asked_for)
    fetcher = Fetcher(CollectOptions(), recovery, Mock(), Mock())
    recovery.on_lost("west", A, "away", START)
    recovery.on_attached("west", A, now=0)
    fetcher.run([reader], 10)
    recovery.on_stored("west", A, START + SECOND)
    fetcher.finish([reader], [reader], START + 9 * SECOND)
    (early,) = asked_for.calls
    early.first[A] = EARLIER
    fetcher.on_ended(Ended(early, StreamStatus(OK, "")))

    assert [(call.purpose, call.positions) for call in asked_for.calls[1:]] == [(Purpose.TAIL, {A: START + SECOND})]
    fetcher.on_ended(Ended(asked_for.calls[1], StreamStatus(OK, "")))
    assert not fetcher.fetching
