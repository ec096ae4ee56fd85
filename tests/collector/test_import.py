"""`meshobs import`: what it reads, how it counts, whose cluster a flow is, and that twice is once."""

import gzip
import io
import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.command_line import Outcome
from support.handmade_mesh import Mesh, frames
from support.recordings import RECORDINGS, TESTS, import_into

from meshobs.cli.main import cli
from meshobs.collector.importer import ImportOptions
from meshobs.collector.write.ledger import LedgerEntry
from meshobs.errors import InputError
from meshobs.pb.flow.flow_pb2 import TraceReason
from meshobs.pb.observer.observer_pb2 import GetFlowsResponse
from meshobs.retention import Keep
from meshobs.store import Store

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GLOBAL_NONE = RECORDINGS / "global-none"
SAMPLES = (TESTS / "data" / "samples.jsonl").read_text().splitlines()
EXPORT = (TESTS / "data" / "samples-export.jsonl").read_text().splitlines()


def rows(db: Path, sql: str) -> list[tuple[Any, ...]]:
    """Query a database."""
    with Store.open(db) as store:
        return store.rows(sql)


def adds_up(entry: LedgerEntry) -> bool:
    """Tell whether each message of a source is in exactly one counter."""
    counts = entry.counts
    return counts.received == counts.stored + counts.duplicate + counts.filtered + counts.undecodable


def some_lines(count: int = 40) -> str:
    """Return the first lines of a real jsonpb file."""
    with gzip.open(GLOBAL_NONE / "west.jsonpb.gz", "rt") as stream:
        return "".join(next(stream) for _ in range(count))


def test_flows_belong_to_the_cluster_of_the_node_that_observed_them(db: Path) -> None:
    """One Relay returns the nodes of all clusters; the file's name says nothing."""
    import_into(db, GLOBAL_NONE / "west.bin.gz")

    found = rows(db, "select distinct cluster, node from flows order by all")

    assert found == [(c, f"{c}-{n}") for c in ("east", "west") for n in ("control-plane", "worker")]


def test_same_flow_from_two_relays_and_from_the_cli_is_stored_once(db: Path) -> None:
    """Two Relays that both see all nodes, and the CLI's lines beside them, give each flow once."""
    result = import_into(db, GLOBAL_NONE)

    stored = {entry.name.rsplit("/", 1)[-1]: entry.counts.stored for entry in result.ledger.entries}
    ((flows, distinct),) = rows(db, "select count(*), count(distinct (node, uuid)) from flows")
    assert flows == distinct == 10891
    assert sum(stored.values()) == flows + 2  # each Relay's own NODE_CONNECTED
    assert stored["west.jsonpb.gz"] == 0
    assert all(map(adds_up, result.ledger.entries))


def test_importing_twice_changes_nothing(db: Path) -> None:
    """The second import stores no message and no state; every table is as before, the runs apart."""
    tables = (
        "select table_name from duckdb_tables() where not internal and table_name not in ('collections', 'batches')"
    )

    def content() -> dict[str, list[tuple[Any, ...]]]:
        return {name: rows(db, f"from {name} order by all") for (name,) in rows(db, tables)}

    import_into(db, RECORDINGS / "local-scaled0")
    first = content()
    again = import_into(db, RECORDINGS / "local-scaled0").ledger.total

    assert first == content()
    assert len(first["flows"]) == 13066
    assert (again.stored, again.duplicate) == (0, again.received)


@pytest.mark.parametrize("ending", ["", ".gz", ".zst"])
@pytest.mark.parametrize("name", ["events.log", "events-2026-11-23T03-00-00.000.log", "events.log.1", "anything.txt"])
def test_exporter_logs_by_any_name(name: str, ending: str, db: Path, tmp_path: Path) -> None:
    """A file is known by its content: static and dynamic exporter logs, rotated or compressed, are lines."""
    packers: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}
    path = tmp_path / (name + ending)
    path.write_bytes(packers[ending](some_lines().encode()))

    total = import_into(db, path).ledger.total

    assert (total.received, total.stored) == (40, 40)


def test_rotated_logs_of_one_folder(db: Path, tmp_path: Path) -> None:
    """Rotated parts beside each other overlap without counting twice; other files there are left alone."""
    lines = some_lines().splitlines(keepends=True)
    (tmp_path / "events.log").write_text("".join(lines[20:]))
    (tmp_path / "events-2026-11-23T03-00-29.log.gz").write_bytes(gzip.compress("".join(lines[:25]).encode()))
    (tmp_path / "truth.json").write_text('{"requests": []}')
    (tmp_path / "notes.txt").write_text("nothing for meshobs")

    result = import_into(db, tmp_path)

    assert [entry.name.rsplit("/", 1)[-1] for entry in result.ledger.entries] == [
        "events-2026-11-23T03-00-29.log.gz",
        "events.log",
    ]
    assert (result.ledger.total.stored, result.ledger.total.duplicate) == (40, 5)


def test_exporter_lines_masked_and_aggregated(db: Path, tmp_path: Path) -> None:
    """A mask may leave out uuid, node and the wrapper's time; agent events count as filtered. Twice is once here, too."""
    path = tmp_path / "events.log"
    path.write_text("\n".join(EXPORT) + "\n")

    for expected in ((2, 0), (0, 2)):
        total = import_into(db, path, options=ImportOptions(cluster="c9")).ledger.total
        assert (total.received, total.filtered, total.undecodable) == (3, 1, 0)
        assert (total.stored, total.duplicate) == expected

    assert rows(db, "select cluster, egress_flow_count from flows order by time") == [("c9", None), ("c9", 37)]


def _line(time: object, number: str, node: str = "west/west-1") -> str:
    return json.dumps({"flow": {"time": time, "uuid": number, "verdict": "FORWARDED", "node_name": node}})


@pytest.mark.parametrize(
    "rounded",
    [
        "2026-11-24T09:00:00.123Z",
        "2026-11-24T09:00:00.1234567Z",
        "2026-11-24T09:00:00.123457Z",  # up
        "2026-11-24T11:00:00.123456717+02:00",
        "2026-11-24T09:00:00Z",
        1795510800,
        1795510800123,
        1795510800123456,
        1795510800123456717,
        1795510800.123457,
        "1795510800.123456717",
        {"seconds": 1795510800, "nanos": 123456717},
    ],
)
@pytest.mark.parametrize("finest_first", [True, False])
def test_a_flow_is_one_whatever_a_pipeline_did_to_its_time(
    rounded: object, finest_first: bool, db: Path, tmp_path: Path
) -> None:
    """The uuid tells; the finer time stays. Another uuid of the same moment is another flow."""
    number = str(uuid.uuid4())
    exact = "2026-11-24T09:00:00.123456717Z"
    (tmp_path / "a.log").write_text(_line(exact, number) + "\n" + _line(exact, str(uuid.uuid4())))
    (tmp_path / "b.log").write_text(_line(rounded, number, "west-1"))
    names = ("a.log", "b.log") if finest_first else ("b.log", "a.log")

    first = import_into(db, *(tmp_path / name for name in names)).ledger.total
    again = import_into(db, *(tmp_path / name for name in names)).ledger.total

    with Store.open(db) as store:
        found = store.rows("select epoch_ns(time) from flows")
    assert (first.stored, first.duplicate, again.stored) == (2, 1, 0)
    assert found == [(1795510800123456717,)] * 2


def test_equal_lines_without_uuid_are_several_flows(db: Path, tmp_path: Path) -> None:
    """Two equal masked lines are two events, and stay two when the file is imported again."""
    path = tmp_path / "masked.log"
    path.write_text((EXPORT[1] + "\n") * 3)

    first = import_into(db, path).ledger.total
    second = import_into(db, path).ledger.total

    assert (first.stored, second.stored, second.duplicate) == (3, 0, 3)


def test_legacy_lines_without_wrapper(db: Path, tmp_path: Path) -> None:
    """Hubble before 0.11 printed the bare flow."""
    path = tmp_path / "old.jsonl"
    bare = [json.loads(line)["flow"] for line in some_lines().splitlines()]
    path.write_text("".join(json.dumps(one) + "\n" for one in bare))
    (tmp_path / "new.jsonl").write_text(some_lines())

    import_into(db, path)
    result = import_into(db, tmp_path / "new.jsonl")

    assert result.ledger.total.duplicate == 40


def test_samples_of_every_kind(db: Path, tmp_path: Path) -> None:
    """Each shape of line that Hubble prints ends in its table."""
    path = tmp_path / "samples.jsonl"
    path.write_text("\n".join(SAMPLES))

    total = import_into(db, path).ledger.total

    assert total.numbers() == {"received": 16, "stored": 16, "duplicate": 0, "filtered": 0, "undecodable": 0}
    counted = [rows(db, f"select count(*) from {table}")[0][0] for table in ("flows", "lost_events")]
    assert counted == [12, 2]
    assert rows(db, "select distinct state from node_status order by all") == [("NODE_CONNECTED",), ("NODE_ERROR",)]


def test_node_errors_keep_their_text(db: Path) -> None:
    """NODE_ERROR messages of a Relay are kept word for word, one row per node they name."""
    import_into(db, RECORDINGS / "node-down")

    found = rows(db, "select distinct cluster, node, message from node_status where state = 'NODE_ERROR'")

    assert {(cluster, node) for cluster, node, _ in found} == {("east", "east-worker")}
    assert any("connection refused" in message for _, _, message in found)


def test_lost_events_of_both_readers(db: Path) -> None:
    """Loss in the ring is each reader's own and is kept with its name."""
    import_into(db, RECORDINGS / "loss")

    readers = rows(db, "select distinct reader from lost_events where source = 'HUBBLE_RING_BUFFER' order by all")

    assert readers == [("east",), ("west",)]


def test_standard_input(meshobs: Callable[..., Outcome], tmp_path: Path) -> None:
    """`hubble observe -o jsonpb | meshobs import -` works, compressed or not, lines or a raw capture."""
    for number, data in enumerate((some_lines().encode(), gzip.compress(some_lines().encode()))):
        result = meshobs("--db", tmp_path / f"{number}.duckdb", "import", "-", stdin=data)

        assert (result.code, "40 received = 40 stored" in result.err) == (0, True)


def test_files_named_together_are_one_recording(db: Path) -> None:
    """The parts of a recording may be named one by one: its objects hold for its flows."""
    folder = RECORDINGS / "tcp-pod"
    import_into(db, folder / "west.bin.gz", folder / "k8s-west.json", folder / "k8s-east.json")

    ((first_flow, valid_from),) = rows(
        db, "select min(time), (select min(valid_from) from services where service = 'webpod') from flows"
    )

    assert valid_from < first_flow


def test_a_folder_of_recordings(db: Path, tmp_path: Path) -> None:
    """A folder that holds folders is as many recordings."""
    for name in ("icmp", "tcp-pod"):
        (tmp_path / name).symlink_to(RECORDINGS / name)

    result = import_into(db, tmp_path)

    assert len(result.ledger.entries) == 2
    assert result.objects > 0


def broken_capture(tmp_path: Path) -> Path:
    """Write a raw capture with two broken messages among good ones."""
    good = [GetFlowsResponse.FromString(one) for one in _messages(4)]
    data = (
        frames(good[:2])
        + (3).to_bytes(4, "big")
        + b"\xff\xff\xff"
        + frames(good[2:])
        + (2).to_bytes(4, "big")
        + b"\x0a\x09"
    )
    path = tmp_path / "x.bin"
    path.write_bytes(data)
    return path


def _messages(count: int) -> list[bytes]:
    with gzip.open(GLOBAL_NONE / "west.bin.gz") as stream:
        found: list[bytes] = []
        while len(found) < count:
            message = stream.read(int.from_bytes(stream.read(4), "big"))
            if GetFlowsResponse.FromString(message).HasField("flow"):
                found.append(message)
        return found


def test_bad_messages_are_counted_and_named(db: Path, tmp_path: Path) -> None:
    """A broken message costs itself only, and is named with its position."""
    result = import_into(db, broken_capture(tmp_path))

    (entry,) = result.ledger.entries
    assert (entry.counts.received, entry.counts.stored, entry.counts.undecodable) == (6, 4, 2)
    assert [problem.split(": ")[0] for problem in entry.counts.problems] == [
        f"{entry.name} message {n}" for n in (3, 6)
    ]


def test_bad_lines_are_counted_and_named(db: Path, tmp_path: Path) -> None:
    """Junk between lines, of every sort, is counted; the first ten are named; the good ones are stored."""
    good = some_lines(3).splitlines()
    junk = ['{"flow":', "not json", "[1, 2]", '"text"', "17", '{"other": 1}', '{"flow": 5}', "\x00\x01", "{" * 5000]
    path = tmp_path / "x.jsonl"
    path.write_bytes("\n".join([good[0], *junk, good[1], "", "  ", good[2]]).encode() + b"\n\xff\xfe\n")

    result = import_into(db, path)

    (entry,) = result.ledger.entries
    assert (entry.counts.received, entry.counts.stored, entry.counts.undecodable) == (13, 3, 10)
    assert len(entry.counts.problems) == 10
    assert entry.counts.problems[0].startswith(f"{path} line 2: ")
    assert rows(db, "select undecodable, len(problems) from collections") == [(10, 10)]


def test_problems_are_named_up_to_ten(db: Path, tmp_path: Path) -> None:
    """Thousands of bad lines are counted, ten are shown."""
    path = tmp_path / "x.jsonl"
    path.write_text(some_lines(1) + "junk\n" * 20_000)

    result = import_into(db, path)

    assert (result.ledger.total.undecodable, len(result.ledger.total.problems)) == (20_000, 10)


def test_strict_makes_the_first_bad_message_fatal(db: Path, tmp_path: Path) -> None:
    """--strict stops there; what was stored before stays, and the run says that it failed."""
    with pytest.raises(InputError, match=r"message 3: .*`strict`"):
        import_into(db, broken_capture(tmp_path), options=ImportOptions(strict=True))

    assert rows(db, "select state, undecodable from collections") == [("failed", 2)]


@pytest.mark.parametrize("cut", [1, 3, 5, 200])
def test_truncated_capture(cut: int, db: Path, tmp_path: Path) -> None:
    """A capture that ends in the middle of a message keeps what came before."""
    whole = frames([GetFlowsResponse.FromString(one) for one in _messages(5)])
    path = tmp_path / "x.bin"
    path.write_bytes(whole[:-cut])

    counts = import_into(db, path).ledger.total

    assert (counts.stored, counts.undecodable, counts.received) == (4, 1, 5)
    assert "ends in the middle" in counts.problems[0]


def test_a_flow_that_decides_is_broken_in_what_is_read_last(db: Path, tmp_path: Path) -> None:
    """Where only flows that decide are stored, others are read as far as they are counted; such a one costs itself only."""
    messages = _messages(60)
    deciding = next(
        n for n, one in enumerate(messages) if GetFlowsResponse.FromString(one).flow.trace_reason == TraceReason.NEW
    )
    # flow { source { labels: "\xff" } }: no UTF-8.
    messages[deciding] += b"\x0a\x05\x42\x03\x22\x01\xff"
    path = tmp_path / "x.bin"
    path.write_bytes(b"".join(len(one).to_bytes(4, "big") + one for one in messages))

    counts = import_into(db, path, options=ImportOptions(keep=Keep.EVENTS)).ledger.total

    assert (counts.received, counts.undecodable, counts.stored + counts.filtered) == (60, 1, 59)
    assert rows(db, "select count(*) from flows_seen") == [(59,)]


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_truncated_compressed_file(pack: Callable[[bytes], bytes], db: Path, tmp_path: Path) -> None:
    """A compressed file that was cut off or damaged gives what can be read and says where it ends."""
    path = tmp_path / "x.jsonpb.z"
    path.write_bytes(pack(some_lines(2000).encode())[:-100])

    counts = import_into(db, path).ledger.total

    assert counts.stored > 0
    assert counts.undecodable >= 1
    assert any("damaged or cut off" in problem for problem in counts.problems), counts.problems


def test_a_gigantic_line_is_passed_over(db: Path, tmp_path: Path) -> None:
    """A line beyond any sense is counted and skipped without being kept in memory."""
    path = tmp_path / "x.jsonl"
    first, second = some_lines(2).splitlines()
    path.write_text(f"{first}\n" + '{"flow": "' + "x" * (40 * 2**20) + f'"}}\n{second}\n')

    counts = import_into(db, path).ledger.total

    assert (counts.stored, counts.undecodable) == (2, 1)
    assert f"{path} line 2: the line is longer than" in counts.problems[0]


def test_impossible_length_in_a_capture(db: Path, tmp_path: Path) -> None:
    """A length that cannot be right ends the reading of that file."""
    path = tmp_path / "x.bin"
    path.write_bytes(
        frames([GetFlowsResponse.FromString(one) for one in _messages(2)]) + b"\xff\xff\xff\xff" + b"x" * 99
    )

    counts = import_into(db, path).ledger.total

    assert (counts.stored, counts.undecodable) == (2, 1)
    assert "cannot be right" in counts.problems[0]


def test_an_unreadable_file_of_a_folder_spoils_only_itself(db: Path, tmp_path: Path) -> None:
    """The rest of the folder is imported; the bad file is named and counted."""
    (tmp_path / "good.jsonl").write_text(some_lines())
    (tmp_path / "junk.bin").write_bytes(b"\x00\x00\x00\x04abcd")
    (tmp_path / "empty.log").write_bytes(b"")

    result = import_into(db, tmp_path)

    assert (result.ledger.total.stored, result.ledger.total.undecodable) == (40, 2)
    assert any("empty.log is empty" in problem for problem in result.ledger.total.problems)
    assert any("junk.bin is no recording" in problem for problem in result.ledger.total.problems)


def test_unknown_enum_numbers_are_kept_as_numbers(db: Path, tmp_path: Path) -> None:
    """A newer Hubble's verdicts and points are stored as the number they have."""
    mesh = Mesh()
    mesh.event("west/west-1", "TO_ENDPOINT", "10.0.1.1", "10.0.1.2", (1, 2))
    one: Any = mesh.messages[-1].flow
    one.verdict, one.trace_observation_point = 77, 250
    (tmp_path / "x.bin").write_bytes(frames(mesh.messages))

    import_into(db, tmp_path / "x.bin")

    assert rows(db, "select verdict, observation_point from flows") == [("77", "250")]


def test_a_node_without_a_cluster(db: Path, tmp_path: Path) -> None:
    """A bare node name is the cluster given by --cluster, else `default`, as Cilium calls it."""
    mesh = Mesh()
    mesh.event("lonely", "TO_ENDPOINT", "10.0.1.1", "10.0.1.2", (1, 2))
    (tmp_path / "x.bin").write_bytes(frames(mesh.messages))

    import_into(db, tmp_path / "x.bin")
    import_into(tmp_path / "y.duckdb", tmp_path / "x.bin", options=ImportOptions(cluster="paris"))

    assert rows(db, "select cluster, node from flows") == [("default", "lonely")]
    assert rows(tmp_path / "y.duckdb", "select cluster, node from flows") == [("paris", "lonely")]


def test_identities_carry_labels_once(db: Path) -> None:
    """Labels and workloads are kept per identity, not per flow."""
    import_into(db, GLOBAL_NONE / "west.bin.gz")

    found = rows(
        db,
        "select cluster, workload, list_contains(labels, 'k8s:app=webpod') from identities where workload = 'webpod'",
    )

    assert sorted(found) == [("east", "webpod", True), ("west", "webpod", True)]


def test_every_batch_leads_back_to_its_source(db: Path) -> None:
    """A stored flow says from which file of which run it came."""
    import_into(db, GLOBAL_NONE / "west.bin.gz")

    found = rows(db, "select distinct origin, reader, collection from flows join batches using (batch)")

    assert found == [(str(GLOBAL_NONE / "west.bin.gz"), "west", 1)]


def test_progress_is_told_of_every_byte(db: Path) -> None:
    """The bar reaches its end: the bytes told are the bytes on disk."""
    from meshobs.collector import importer

    told: dict[str, int] = {}

    def progress(source: Any, size: int) -> None:
        told[source.name] = told.get(source.name, 0) + size

    recordings = importer.plan([RECORDINGS / "icmp"])
    with Store.open(db, write=True) as store:
        importer.run(store, recordings, ImportOptions(), progress)

    assert told == {source.name: source.size for recording in recordings for source in recording}


def test_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A terminal shows a bar; a pipe stays quiet (the other tests)."""
    screen = io.StringIO()
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", screen)

    cli.main(["--db", str(tmp_path / "x.duckdb"), "import", str(RECORDINGS / "icmp")], standalone_mode=False)

    assert "west.bin.gz" in screen.getvalue()
