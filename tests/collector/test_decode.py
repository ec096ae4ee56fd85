"""Decoding: the fast decoder equals the plain one on any message, and JSON lines give the same rows as protobuf."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.recordings import RECORDINGS, TESTS, import_into
from support.size import WHOLE

from meshobs.collector.decode import arrow, plain
from meshobs.collector.decode import fields as hubble_fields
from meshobs.pb.observer.observer_pb2 import GetFlowsResponse
from meshobs.store import Store

_INTEGERS = {
    FieldDescriptor.TYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: st.integers(0, 2**64 - 1),
    # Numbers that no version has named yet are kept, too.
    FieldDescriptor.TYPE_ENUM: st.integers(0, 400) | st.integers(-(2**31), 2**31 - 1),
}
# A time that nanoseconds in 64 bits can hold; what lies outside is a case of its own below.
_SECONDS = st.integers(-9_000_000_000, 9_000_000_000)


def scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    """Return values for a field that is no message."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.type == FieldDescriptor.TYPE_STRING:
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=12)
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return st.floats(allow_nan=False, width=32)
    return _INTEGERS[field.type]


def content(descriptor: Descriptor) -> st.SearchStrategy[dict[str, Any]]:
    """Return any content of a message, as nested dictionaries; every field may be absent."""
    if descriptor.full_name == "google.protobuf.Timestamp":
        return st.fixed_dictionaries({"seconds": _SECONDS, "nanos": st.integers(0, 10**9 - 1)})
    if descriptor.full_name == "google.protobuf.Any":
        return st.just({})
    fields: dict[str, st.SearchStrategy[Any]] = {}
    for field in descriptor.fields:
        one = content(field.message_type) if field.message_type else scalar(field)
        fields[field.name] = st.lists(one, max_size=3) if field.is_repeated else one
    return st.fixed_dictionaries({}, optional=fields)


def fill(message: Message, values: dict[str, Any]) -> None:
    """Set a message's fields."""
    for name, value in values.items():
        if isinstance(value, dict):
            getattr(message, name).SetInParent()
            fill(getattr(message, name), value)
        elif isinstance(value, list):
            for item in value:
                if isinstance(item, dict):
                    fill(getattr(message, name).add(), item)
                else:
                    getattr(message, name).append(item)
        else:
            setattr(message, name, value)


@st.composite
def any_response(draw: st.DrawFn) -> bytes:
    """Return the bytes of any GetFlowsResponse, with fields that this version does not know at its end now and then."""
    message = GetFlowsResponse()
    descriptor: Any = message.DESCRIPTOR
    fill(message, draw(st.deferred(lambda: content(descriptor))))
    unknown = draw(st.sampled_from([b"", b"\xf8\xff\x01\x07", b"\xfa\xff\x01\x03abc"]))
    return bytes(message.SerializeToString() + unknown)


@settings(max_examples=300 if WHOLE else 100, deadline=None)
@given(messages=st.lists(any_response(), max_size=5))
def test_fast_decoder_equals_plain_protobuf(messages: list[bytes]) -> None:
    """Ptars and protobuf agree on arbitrary messages: unknown numbers and fields, absent wrappers, empty ones."""
    fast = arrow.decode(messages)
    reference = plain.decode(messages, arrow.schema())

    assert fast.broken == []
    assert reference.equals(fast.batch)


def response(**values: Any) -> bytes:
    """Return the bytes of a GetFlowsResponse with these fields."""
    message = GetFlowsResponse()
    fill(message, values)
    return bytes(message.SerializeToString())


@pytest.mark.parametrize(
    "message",
    [
        b"",
        response(flow={}),
        response(flow={"is_reply": {}}),
        response(flow={"is_reply": {"value": False}}),
        response(flow={"IP": {"source": "2001:db8::1", "destination": "2001:db8::2", "ipVersion": 2}}),
        response(flow={"verdict": 99, "trace_observation_point": 250, "drop_reason_desc": 100_000}),
        response(flow={"source": {"labels": ["k8s:app=x" * 1000] * 200}}),
        response(flow={"l7": {"http": {"url": "http://x/" + "y" * 3_000_000}}}),
        response(lost_events={"source": 2, "num_events_lost": 2**64 - 1, "cpu": {}}),
        response(node_status={"state_change": 3, "node_names": ["a/b", ""], "message": "broken"}),
    ],
    ids=[
        *("empty", "empty flow", "absent reply value", "reply false", "ipv6", "unknown enums"),
        *("many labels", "huge", "lost", "status"),
    ],
)
def test_odd_messages(message: bytes) -> None:
    """What Hubble or a newer one may send is read the same by both decoders."""
    fast = arrow.decode([message])

    assert plain.decode([message], arrow.schema()).equals(fast.batch)
    assert (fast.batch.num_rows, fast.broken) == (1, [])


@pytest.mark.parametrize("seconds", [-(2**62), -62_135_596_800, 253_402_300_799, 2**62])
def test_times_beyond_64_bits_of_nanoseconds(seconds: int) -> None:
    """A time that the store cannot hold does not stop the batch; both decoders give the same."""
    messages = [response(flow={"time": {"seconds": seconds}}), response(flow={"uuid": "x"})]

    fast = arrow.decode(messages)

    assert fast.batch.num_rows == 2
    assert plain.decode(messages, arrow.schema()).equals(fast.batch)


def test_broken_messages_are_named_and_the_others_kept() -> None:
    """One broken message costs itself only."""
    good = response(flow={"uuid": "x"})
    messages = [good, b"\xff\xff\xff", good, b"\x0a\x05ab"]

    decoded = arrow.decode(messages)

    assert [index for index, _ in decoded.broken] == [1, 3]
    assert list(decoded.positions) == [0, 2]
    assert decoded.batch.equals(plain.decode([good, good], arrow.schema()))


def test_fallback_gives_the_same_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where ptars refuses everything the plain decoder fills the same table."""

    class Refusing:
        def list_to_record_batch(self, messages: list[bytes]) -> pa.RecordBatch:
            if messages:
                raise ValueError("not today")
            return pa.RecordBatch.from_pylist([], schema=schema)

    schema = arrow.schema()
    import_into(tmp_path / "fast.duckdb", RECORDINGS / "keepalive")
    monkeypatch.setattr(arrow, "_handler", Refusing)
    import_into(tmp_path / "plain.duckdb", RECORDINGS / "keepalive")

    assert _flows(tmp_path / "fast.duckdb") == _flows(tmp_path / "plain.duckdb")


@pytest.mark.parametrize("name", ["global-none", "snat"])
def test_lines_and_messages_give_the_same_flows(name: str, tmp_path: Path) -> None:
    """The hubble CLI's jsonpb and the raw stream of the same window are the same rows (the CLI has no node_status)."""
    import_into(tmp_path / "raw.duckdb", RECORDINGS / name / "west.bin.gz")
    import_into(tmp_path / "lines.duckdb", RECORDINGS / name / "west.jsonpb.gz")

    raw, lines = _flows(tmp_path / "raw.duckdb"), _flows(tmp_path / "lines.duckdb")

    assert len(raw) > 10_000
    assert raw == lines
    assert _identities(tmp_path / "raw.duckdb") == _identities(tmp_path / "lines.duckdb")


def of_node(node: str, cluster: str, **endpoint: Any) -> bytes:
    """Return a flow whose source is an endpoint of a cluster, seen by a node without one in its name."""
    labels = [f"k8s:io.cilium.k8s.policy.cluster={cluster}"] if cluster else []
    return response(flow={"node_name": node, "source": {"ID": 7, "labels": labels}, **endpoint})


@settings(max_examples=25 if WHOLE else 10, deadline=None)
@given(messages=st.lists(any_response(), min_size=1, max_size=4))
@example(messages=[of_node("n", "west"), of_node("n", "east"), of_node("n", "")])
@example(messages=[of_node("n", "west", destination={"ID": 8}), of_node("n", ""), of_node("m", "")])
def test_any_message_gives_the_same_row_as_its_line(messages: list[bytes]) -> None:
    """Protobuf's own JSON of a message is stored as the message is."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parsed = [GetFlowsResponse.FromString(message) for message in messages]
        for number, message in enumerate(parsed):
            message.flow.uuid = f"{number:08x}-0000-4000-8000-000000000000"
            message.flow.time.seconds = 1_700_000_000 + number
            message.flow.extensions.Clear()
        (folder / "x.bin").write_bytes(b"".join(_framed(message) for message in parsed))
        lines = [
            json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None) for message in parsed
        ]
        (folder / "x.jsonpb").write_text("".join(line + "\n" for line in lines))
        import_into(folder / "raw.duckdb", folder / "x.bin")
        import_into(folder / "lines.duckdb", folder / "x.jsonpb")

        assert _flows(folder / "raw.duckdb") == _flows(folder / "lines.duckdb")


@pytest.mark.parametrize("spelling", [True, False], ids=["proto names", "camelCase"])
def test_samples_in_both_spellings(spelling: bool, tmp_path: Path) -> None:
    """Keys may be proto names or camelCase."""
    lines = (TESTS / "data" / "samples.jsonl").read_text().splitlines()
    parsed = [json_format.Parse(line, GetFlowsResponse(), ignore_unknown_fields=True) for line in lines]
    (tmp_path / "x.bin").write_bytes(b"".join(_framed(message) for message in parsed))
    texts = [
        json_format.MessageToJson(message, preserving_proto_field_name=spelling, indent=None) for message in parsed
    ]
    (tmp_path / "x.jsonpb").write_text("\n".join(texts))

    raw = import_into(tmp_path / "raw.duckdb", tmp_path / "x.bin").ledger.total
    result = import_into(tmp_path / "lines.duckdb", tmp_path / "x.jsonpb").ledger.total

    assert len(lines) == raw.received == result.received
    assert raw.numbers() == result.numbers()
    for table in ("flows", "lost_events", "node_status"):
        with Store.open(tmp_path / "raw.duckdb") as a, Store.open(tmp_path / "lines.duckdb") as b:
            rows = f"select * exclude (batch) from {table} order by all"
            assert a.rows(rows.replace("(batch)", "(batch, reader)") if table != "flows" else rows) == b.rows(
                rows.replace("(batch)", "(batch, reader)") if table != "flows" else rows
            )


@pytest.mark.parametrize("number", [-(2**31), -2, -1, 0, 2**31 - 1])
def test_enum_numbers_at_the_edges(number: int, tmp_path: Path) -> None:
    """A number without a name stays a number, whatever it is."""
    (tmp_path / "x.bin").write_bytes(
        _framed(GetFlowsResponse.FromString(response(flow={"verdict": number, "time": {"seconds": 1}})))
    )

    import_into(tmp_path / "x.duckdb", tmp_path / "x.bin")

    with Store.open(tmp_path / "x.duckdb") as store:
        assert store.value("select verdict from flows") == (str(number) if number else None)


def test_wanted_names_exist() -> None:
    """Every field named as wanted is one of the API; the pruned message keeps numbers."""
    pruned = hubble_fields.message_type()

    assert {field.name: field.number for field in pruned.fields} == {
        "flow": 1,
        "node_status": 2,
        "lost_events": 3,
        "node_name": 1000,
        "time": 1001,
    }


def _framed(message: Message) -> bytes:
    raw = bytes(message.SerializeToString())
    return len(raw).to_bytes(4, "big") + raw


def _flows(db: Path) -> list[tuple[object, ...]]:
    with Store.open(db) as store:
        return store.rows("select * exclude (batch) from flows order by all")


def _identities(db: Path) -> list[tuple[object, ...]]:
    with Store.open(db) as store:
        return store.rows("from identities order by all")
