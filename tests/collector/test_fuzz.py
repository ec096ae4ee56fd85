"""Importers and object readers on damaged input: a reason for the user instead of a crash, and counters that add up."""

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import sweeps
from support.forms import AT, FORMS, LINES, SHAPES, dump_yaml, shop_mesh
from support.mutations import TEXT_CHANGES, change_bytes
from support.reading import read
from support.recordings import import_into

import meshobs
from meshobs.collector.importer import ImportOptions, Result
from meshobs.collector.kube import document
from meshobs.collector.kube.objects import KINDS, state_of
from meshobs.collector.recordings.files import identify
from meshobs.collector.recordings.objects import ObjectReading, node_names, read_relay_nodes
from meshobs.collector.recordings.wrappers import MARK, chain_of, is_message
from meshobs.pb.observer import observer_pb2
from meshobs.store import Store

REPORTS = ("affinity", "nat", "hops", "services", "coverage")
OBJECT_FILES = {
    name: text
    for shape, make in SHAPES.items()
    for name, text in ((f"{shape}/{name}", text) for name, text in make("west", shop_mesh().objects["west"]).items())
}
# A change and the number that its chances come from.
CHANGES = st.lists(st.tuples(st.sampled_from(sorted(TEXT_CHANGES)), st.integers(0, 2**16)), max_size=3)
DAMAGES = st.lists(st.integers(0, 2**16), max_size=3)


def changed(line: str, changes: list[tuple[str, int]]) -> str:
    """Return a line after changes of its fields; it stays one line."""
    for name, seed in changes:
        line = TEXT_CHANGES[name](Random(seed), line)
    return line.replace("\n", " ")


@st.composite
def files(draw: st.DrawFn) -> tuple[str, bytes]:
    """Draw a file: messages or objects in a form that is read, fields changed, bytes damaged."""
    changes = draw(CHANGES)
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(FORMS)))
        lines = [changed(LINES[0], changes), *LINES[1:4]]
        data = FORMS[name](lines).encode(errors="replace")
    else:
        name = draw(st.sampled_from(sorted(OBJECT_FILES)))
        text = OBJECT_FILES[name]
        for change, seed in changes:
            text = TEXT_CHANGES[change](Random(seed), text)
        data = text.encode(errors="replace")
    for seed in draw(DAMAGES):
        data = change_bytes(Random(seed), data)
    return name.rsplit("/", 1)[-1], data


@given(file=files())
@settings(max_examples=150, deadline=None)
def test_any_file_is_read_or_refused_in_one_line(
    file: tuple[str, bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever happened to a recording: what reads it never breaks, and what it refuses it names."""
    name, data = file
    path = tmp_path_factory.mktemp("one") / name
    path.write_bytes(data)

    read(path)


PER_LINE = sorted(
    name
    for name, form in FORMS.items()
    if form(LINES).count("\n") == len(LINES) and name.endswith((".log", ".json", ".jsonl"))
)


@given(name=st.sampled_from(PER_LINE), changes=st.lists(CHANGES, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_what_is_wrapped_comes_out_as_it_went_in(
    name: str, changes: list[list[tuple[str, int]]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Messages with odd fields are the same messages bare and wrapped."""
    lines = [LINES[0], *(changed(line, one) for line, one in zip(LINES[1:], changes, strict=False))]
    lines = [line for line in lines if is_message(document.parse(line.encode(errors="replace")))]
    path = tmp_path_factory.mktemp("one") / name
    try:
        path.write_bytes(FORMS[name](lines).encode(errors="replace"))
    except RecursionError:  # what nests too deeply cannot be wrapped in JSON here
        return

    source = identify(path)
    with source.open() as stream:
        found = [item for batch in source.batches(stream) for item in batch.items]

    def plain(line: bytes) -> str:
        return json.dumps(document.parse(line), sort_keys=True)

    kept = set(document.parse(LINES[0].encode()) or ())  # type: ignore[arg-type]  # an object
    bare = [plain(line.encode(errors="replace")) for line in lines]
    assert len(found) == len(bare)
    if kept == set(document.parse(found[0]) or ()):  # type: ignore[arg-type]  # merged keys stay beside the message's own
        assert [plain(item) for item in found] == bare


@given(damaged=st.lists(files(), min_size=4, max_size=4))
@settings(max_examples=2, deadline=None)
def test_a_damaged_file_stops_nothing(
    damaged: list[tuple[str, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The good file beside it is read whole, every message has one counter, and a second import stores nothing."""
    folder = tmp_path_factory.mktemp("any")
    for number, (name, data) in enumerate(damaged):
        (folder / str(number)).mkdir()
        (folder / str(number) / name).write_bytes(data)
    (folder / "good.jsonl").write_text("\n".join(LINES))

    check(import_into(folder / "x.duckdb", folder), str(folder / "good.jsonl"))
    again = check(import_into(folder / "x.duckdb", folder), str(folder / "good.jsonl"))

    assert again.ledger.total.stored == 0


def check(result: Result, good: str = "") -> Result:
    """Hold an import's counters against each other."""
    for entry in result.ledger.entries:
        counts = entry.counts
        assert counts.received == counts.stored + counts.duplicate + counts.filtered + counts.undecodable, entry
        if entry.name == good:
            assert counts.stored + counts.duplicate == len(LINES)
    return result


def test_every_field_may_hold_anything(tmp_path: Path) -> None:
    """Each field of messages, objects, changes and nodes with odd values: all lines are counted, all reports run."""
    folder, db = tmp_path / "in", tmp_path / "x.duckdb"
    folder.mkdir()
    flows = [line for one in sweeps.messages() for line in sweeps.variants(one, step=7)]
    texts = {
        "x.jsonl": flows,
        "k8s-west.jsonl": list(sweeps.object_lines(23)),
        "watch-east-svc.jsonl": list(sweeps.variants(sweeps.watch_event(), step=11)),
        "relay-west.jsonl": list(sweeps.variants(sweeps.RELAY, step=3)),
        "good.jsonl": LINES,
    }
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines), errors="replace")
    (folder / "k8s-north.yaml").write_text("\n---\n".join(sweeps.object_lines(97)), errors="replace")

    first = check(import_into(db, folder), str(folder / "good.jsonl"))
    again = check(import_into(db, folder), str(folder / "good.jsonl"))

    counts = next(entry.counts for entry in first.ledger.entries if entry.name.endswith("/x.jsonl"))
    assert counts.received + counts.foreign == len(flows)
    assert (first.objects > 300, again.ledger.total.stored) == (True, 0)
    with meshobs.open(db) as opened:
        assert all(opened.report(name, whole=True) for name in REPORTS)


_JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=6) | st.sampled_from(["\ud800", "1" * 5000, AT]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "port", "ip", "key", "addresses"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def odd_objects(draw: st.DrawFn) -> Any:
    """Draw an object of a known shape in which anything may stand anywhere."""
    value: Any = draw(st.sampled_from([*sweeps.objects(), sweeps.watch_event(), sweeps.RELAY]))
    value = json.loads(json.dumps(value))
    for _ in range(draw(st.integers(1, 4))):
        place = value
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 3)) == 0:
                place[key] = draw(_JSON)
                break
            place = inner
    return value


@given(value=odd_objects())
@settings(max_examples=150, deadline=None)
def test_any_object_is_a_state_or_left_out(value: Any) -> None:
    """Wrong types anywhere: no crash; what is kept is text that a database takes; what is not kept is told."""
    parsed = document.parse(json.dumps(value).encode())
    reading = ObjectReading("west", None)

    reading.add(parsed)
    read_relay_nodes(parsed, None)
    node_names(parsed)

    assert reading.sightings() or reading.notes() or document.at(parsed, "items") == [] or deleted(parsed)
    state = state_of(parsed, "west")
    if state:
        f"{state}".encode()
        assert isinstance(json.loads(state.state), dict)
        assert state.kind in KINDS


def deleted(value: document.Json) -> bool:
    """Tell whether Endpoints name nothing: they are a state without a backend, and none where they are gone."""
    return document.text(value, "type") in ("DELETED", "BOOKMARK")


# What fuzzing found, each in the smallest form.


NO_TIMES = (
    '"infinity"', '"-infinity"', '"{"', '"{\\"seconds\\": 1e18"', "-1e28", "9223372036854775807", '{"seconds": 9223372036854775807}',
    '{"seconds": -62135596800}', '"9999-12-31T23:59:59Z"', '"2262-04-11T23:47:16.854775807Z"', "NaN",
)  # fmt: skip


def test_no_time_of_a_flow_is_beyond_what_windows_hold(db: Path, tmp_path: Path) -> None:
    """Times that are none, and those outside 1678 to 2261, make their flow undecodable; what is beside them is stored."""
    flow = json.dumps({"flow": {**sweeps.BARE_FLOW, "time": "@"}})
    lines = [
        flow.replace('"@"', time)
        for time in (*NO_TIMES, '"epoch"', "1790000000.5", '{"seconds": "1790000001", "nanos": 7}')
    ]
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(lines))

    total = check(import_into(db, path)).ledger.total

    assert (total.stored, total.undecodable) == (3, len(NO_TIMES))
    with Store.open(db) as store:
        found = [row[0] for row in store.rows("select epoch_ns(time) from flows order by time")]
    assert found == [0, 1_790_000_000_500_000_000, 1_790_000_001_000_000_007]


def capture(*messages: observer_pb2.GetFlowsResponse) -> bytes:
    """Return messages as a raw capture."""
    texts = [message.SerializeToString() for message in messages]
    return b"".join(len(text).to_bytes(4, "big") + text for text in texts)


def test_a_raw_flow_with_an_impossible_uuid_or_time(db: Path, tmp_path: Path) -> None:
    """A flipped bit in an uuid or a time of a raw capture: the flow gets an uuid of its content, or is undecodable."""
    folder = tmp_path / "in"
    folder.mkdir()
    for file, damage in enumerate(("uuid", "last", "first")):
        good, bad = observer_pb2.GetFlowsResponse(), observer_pb2.GetFlowsResponse()
        for number, message in enumerate((good, bad)):
            message.flow.uuid = f"000000{file}{number}-9a29-408f-a113-b31dad2cf438"
            message.flow.node_name = f"west/w{file}"
            message.flow.time.seconds = 1_790_000_000 + number
        if damage == "uuid":
            bad.flow.uuid = "g" + bad.flow.uuid[1:]
        else:
            bad.flow.time.seconds = 253_402_300_799 if damage == "last" else -62_135_596_800
        (folder / f"{damage}.bin").write_bytes(capture(good, bad))

    first, again = (check(import_into(db, folder)).ledger for _ in range(2))

    found = {entry.reader: (entry.counts.stored, entry.counts.undecodable) for entry in first.entries}
    assert found == {"uuid": (2, 0), "last": (1, 1), "first": (1, 1)}
    assert again.total.stored == 0


def test_numbers_and_nulls_that_no_enum_or_list_has(db: Path, tmp_path: Path) -> None:
    """A list of names with null in it, and an enum's number of 64 bits, are stored as far as they say anything."""
    path = tmp_path / "x.jsonl"
    nodes = json.dumps(sweeps.NODE_STATUS).replace('["west/w1", "east/e1"]', '[null, "west/w1"]')
    verdict = LINES[0].replace('"verdict":"FORWARDED"', f'"verdict":{2**63 - 1}')
    path.write_text(f"{nodes}\n{verdict}\n{LINES[1]}\n")

    total = import_into(db, path).ledger.total

    assert (total.stored, total.undecodable) == (3, 0)
    with Store.open(db) as store:
        assert store.rows("select verdict from flows order by verdict") == [(str(2**63 - 1),), ("FORWARDED",)]


BROKE = (
    ("k8s-a.json", json.dumps({"kind": "Service", "metadata": {"name": "x", "generation": 0}}, indent=1).replace("0", "1" * 5000)),
    ("relay-b.json", json.dumps({"nodes": [{"name": "a/b", "num_flows": "1" * 5000}]})),
    ("k8s-c.yaml", "kind: Node\nmetadata:\n  name: n\n  labels: {8: a, true: b, ~: c}\n"),
    ("k8s-d.yaml", "kind: CiliumNode\nmetadata:\n  name: n\nspec:\n  ipam:\n    pool: {8: a, b: c}\n"),
    ("k8s-e.json", '{"kind": "Service", "metadata": {"name": "a\\ud800b", "uid": "\\udfff"}, "spec": {"type": "\\ud83d"}}'),
    ("k8s-f.json", '{"kind": "Node", "metadata": {"name": "n", "creationTimestamp": "9999-12-31T00:00:00Z"}}'),
    ("k8s-g.json", '{"kind": "Node", "metadata": {"name": "n", "creationTimestamp": "infinity"}}'),
    ("watch-h-svc.jsonl", '{"type": "ADDED", "received": "9999-12-31T00:00:00Z", "object": {"kind": "Node", "metadata": {"name": "n"}}}'),
)  # fmt: skip


def test_objects_that_broke_an_import(db: Path, tmp_path: Path) -> None:
    """Numbers of thousands of digits, keys that are no text, halves of characters, impossible times: all else is kept."""
    folder = tmp_path / "in"
    for name, text in (*BROKE, ("good.jsonl", "\n".join(LINES))):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    result = check(import_into(db, folder))

    assert (result.ledger.total.stored, result.ledger.total.undecodable) == (len(LINES), 1)
    assert any("too many digits" in problem for problem in result.ledger.total.problems)
    with Store.open(db) as store:
        found = store.rows(
            "select cluster, name from kube_states where cluster in ('c', 'd', 'e', 'f', 'g', 'h') order by all"
        )
        assert found == [("c", "n"), ("d", "n"), ("e", "a\ufffdb"), ("f", "n"), ("g", "n"), ("h", "n")]
        assert store.value("select count(created) from kube_states") == 0


def test_what_is_left_out_of_objects_is_told() -> None:
    """Objects without a name, of other clusters, of no use, events of no known type: each is counted in the notes."""
    reading = ObjectReading("west", None)
    mirrored = {"kubernetes.io/service-name": "x", "multicluster.kubernetes.io/source-cluster": "east"}
    given: list[document.Json] = [
        {"kind": "Service", "metadata": {}},
        {"kind": "Endpoints", "subsets": [{}]},
        {"kind": "EndpointSlice", "metadata": {"name": "x", "labels": mirrored}},
        {"kind": "ConfigMap", "metadata": {"name": "other"}},
        {"type": "ERROR", "object": {"kind": "Status", "code": 410}},
        {"type": "BOOKMARK", "object": {"kind": "Service"}},
        {"kind": "x" * 1000, "metadata": {"name": "x"}},
        None,
    ]

    for one in given:
        reading.add(one)

    (note,) = reading.notes()
    assert sum(reading.unused.values()) == len(given) - 1
    told = (
        "1 Service without a name",
        "1 Endpoints without a name",
        "1 EndpointSlice",
        "1 ConfigMap",
        "1 an event of an unknown type",
    )
    assert all(one in note for one in told)
    assert len(note) < 500


def test_a_label_of_yaml_that_looks_like_a_number_is_text() -> None:
    """`8: a` and `on: b` are labels, as Kubernetes reads them."""
    from meshobs.collector.recordings.streams import ByteStream
    from meshobs.collector.recordings.yaml_objects import read as read_yaml

    text = dump_yaml({"kind": "Node", "metadata": {"labels": {8: "a", True: "b", None: "c"}}})

    (item,) = read_yaml(ByteStream(io.BytesIO(text.encode())), {"Node"})

    assert document.at(item.value, "metadata", "labels") == {"8": "a", "true": "b", "null": "c"}


def test_pairs_of_escapes_stay_one_character() -> None:
    """Only a half without its other half is lost; an escaped backslash starts no escape."""
    found = document.parse(rb'["\ud83d\ude00", "\\ud800", "\ud800x", "\udc00\ud83d"]')

    assert found == ["\U0001f600", "\\ud800", "\ufffdx", "\ufffd\ufffd"]


def test_names_of_files_that_are_no_utf8(db: Path, tmp_path: Path) -> None:
    """Linux takes any bytes for a name; sources, problems and the command line are stored all the same."""
    folder = tmp_path / "in"
    folder.mkdir()
    name = os.fsdecode(b"m\xfcnchen.jsonl")
    (folder / name).write_text("\n".join(LINES))
    (folder / os.fsdecode(b"\xff.jsonl")).write_text("nothing of ours")

    total = import_into(db, folder, options=ImportOptions(arguments=[name])).ledger.total

    assert (total.stored, total.undecodable) == (len(LINES), 1)
    with Store.open(db) as store:
        assert "m\ufffdnchen" in str(store.value("select sources from collections"))


def test_a_damaged_member_packed_by_lzma(db: Path, tmp_path: Path) -> None:
    """Each way of packing has errors of its own; the members after it are read."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a.jsonl", "\n".join(LINES))
        archive.writestr("b.jsonl", "\n".join(LINES))
    data = bytearray(out.getvalue())
    data[100] ^= 0xFF
    path = tmp_path / "x.zip"
    path.write_bytes(data)

    total = import_into(db, path).ledger.total

    assert (total.stored, total.undecodable) == (len(LINES), 1)


def test_a_member_without_a_name(db: Path, tmp_path: Path) -> None:
    """A flipped byte empties a name in a zip: what it holds is read like the others."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jsonl", "\n".join(LINES))
    path = tmp_path / "x.zip"
    path.write_bytes(out.getvalue().replace(b"a.jsonl", b"\0.jsonl"))

    assert import_into(db, path).ledger.total.stored == len(LINES)


def test_addresses_that_are_none_break_no_report(db: Path) -> None:
    """What is no address has no number, and the last address of the last range is one."""
    none, last = ["12345::1", "1:2:3:4:5:6:7:8:9", ":::", "1:2:3", "", "x"], ":".join(["ffff"] * 8)
    query = "select address_number($address), last_number(address_number($address), $address || '/1')"

    with Store.open(db, write=True) as store:
        found = [store.rows(query, {"address": address})[0] for address in (*none, "::1", "10.0.0.1", last)]

    assert found[: len(none)] == [(None, None)] * len(none)
    assert found[len(none) :] == [
        (1, 2**127 - 1),
        (0xFFFF_0A00_0001, 0xFFFF_7FFF_FFFF),
        (2**128 - 1, 2**128 - 1),
    ]


def test_numbers_that_are_too_large_break_no_report(db: Path, tmp_path: Path) -> None:
    """Losses that are more than 64 bits hold, a version with numbers that no version has, a Relay's uptime of centuries."""
    folder = tmp_path / "in"
    folder.mkdir()
    lost = [
        json.dumps(sweeps.LOST_EVENTS | {"time": f"2026-11-24T09:00:0{n}Z"}).replace('"5"', str(2**64 - 1))
        for n in (1, 2)
    ]
    version = LINES[0].replace('"flow":{', '"flow":{"emitter":{"name":"hubble","version":"99999999999.99999999999.1"},')
    (folder / "x.jsonl").write_text("\n".join([*lost, version, *LINES[1:]]))
    (folder / "relay-west.json").write_text(
        json.dumps(sweeps.RELAY).replace('"uptime_ns": "5"', f'"uptime_ns": "{2**64 - 1}"')
    )

    import_into(db, folder)

    with Store.open(db) as store:
        assert store.value("select lost_events from status_summary") == 2**64 - 1
    with meshobs.open(db) as opened:
        assert all(opened.report(name, whole=True) for name in ("affinity", "coverage"))


@pytest.mark.parametrize(
    "search",
    [
        lambda: MARK.search(b"\\" * 10**6),
        lambda: MARK.search(b'"' * 10**6),
        lambda: chain_of(b'x {"flow": ' + b'{"a":1,' * 10**5),
    ],
)
def test_long_lines_take_no_longer_than_they_are(search: Callable[[], object]) -> None:
    """A line of a megabyte that is nearly a message is looked at once; these took hours."""
    assert search() is None
