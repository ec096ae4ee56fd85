"""`meshobs import` of what people have: wrapped lines, pretty JSON, other encodings, archives, kubectl's shapes, sysdumps."""

import gc
import gzip
import io
import json
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.command_line import Outcome
from support.forms import (
    AGENT_JSON,
    AGENT_TEXT,
    AT,
    FORMS,
    LINES,
    MESSAGES,
    SHAPES,
    as_list,
    dump_yaml,
    pretty,
    shop_mesh,
    sysdump,
)
from support.handmade_mesh import GLOBAL, Mesh
from support.recordings import import_into

from meshobs.collector.importer import ImportOptions, Result
from meshobs.errors import InputError
from meshobs.store import Store


def counted(result: Result) -> dict[str, tuple[int, int, int]]:
    """Return by file: messages known (stored or there already), undecodable, lines of something else."""
    return {
        entry.name.rsplit("/", 1)[-1]: (
            entry.counts.stored + entry.counts.duplicate,
            entry.counts.undecodable,
            entry.counts.foreign,
        )
        for entry in result.ledger.entries
    }


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Import all wrapped files, spread over nested folders."""
    folder = tmp_path_factory.mktemp("wrapped")
    for name, form in FORMS.items():
        path = folder / name.partition("-")[0] / "deep" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(form(LINES), newline="")
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"):
        (folder / f"{encoding}.jsonl").write_bytes("\r\n".join(LINES).encode(encoding))
        (folder / f"{encoding}-pretty.json").write_bytes(json.dumps(MESSAGES, indent=2).encode(encoding))
    return import_into(folder / "x.duckdb", folder)


ENCODED = [
    f"{name}{end}" for name in ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be") for end in (".jsonl", "-pretty.json")
]


@pytest.mark.parametrize("name", [*FORMS, *ENCODED])
def test_every_message_is_read_whatever_it_is_wrapped_in(name: str, wrapped: Result) -> None:
    """Each wrapping, layout and encoding gives just the messages in it."""
    undecodable = int(name == "after-noise.json")
    foreign = int(name == "kusto-v2.json")  # the frame before the rows
    assert counted(wrapped)[name] == (len(LINES), undecodable, foreign)


def test_wrapping_is_said_once_per_file(wrapped: Result) -> None:
    """The user is told what was taken off, and of plain files nothing."""
    notes = [note for note in wrapped.notes if "/cri.log" in note or "/kubectl-both.log" in note]

    assert len(notes) == 2
    assert notes[0].endswith("messages are wrapped: CRI (containerd, CRI-O)")
    assert notes[1].endswith("messages are wrapped: kubectl logs --prefix, in it a time before each line")
    assert not any("flows.ndjson" in note or "pretty" in note for note in wrapped.notes)


def test_log_lines_of_an_agent_are_no_flows(db: Path, tmp_path: Path) -> None:
    """A log line that has `source`, `verdict` or `IP` is counted as something else; so is one in text."""
    foreign = [
        AGENT_JSON,
        AGENT_TEXT,
        "I1124 09:00:00.1 1 main.go:1] started",
        json.dumps({"@timestamp": AT, "source": {"ip": "10.0.0.1"}, "message": "x"}),
        json.dumps({"time": AT, "level": "warn", "verdict": "DROPPED", "node_name": "n1", "msg": "policy"}),
        json.dumps({"time": AT, "severity": "INFO", "source": "x", "destination": "y", "IP": "10.0.0.1"}),
    ]
    mixed = [line for pair in zip(foreign, LINES, strict=False) for line in pair]
    (tmp_path / "agent.log").write_text("\n".join(mixed))
    (tmp_path / "agent-cri.log").write_text("\n".join(f"{AT} stdout F {line}" for line in mixed))
    # The agent's start is longer than what is looked at first.
    (tmp_path / "late.log").write_text("\n".join([AGENT_TEXT] * 2000 + LINES[:6]))

    found = counted(import_into(db, tmp_path))

    assert found == {"agent.log": (6, 0, 6), "agent-cri.log": (6, 0, 6), "late.log": (6, 0, 2000)}
    with Store.open(db) as store:
        assert store.value("select count(*) from flows where node = '' or source is null and source_id is null") == 0


def test_strict_passes_over_what_is_no_message(db: Path, tmp_path: Path) -> None:
    """--strict is about messages: an agent's log lines are none, half a message is one."""
    path = tmp_path / "agent.log"
    path.write_text("\n".join([AGENT_JSON, AGENT_TEXT, *LINES]))
    assert import_into(db, path, options=ImportOptions(strict=True)).ledger.total.foreign == 2

    path.write_text("\n".join([*LINES, LINES[0][:100]]))
    with pytest.raises(InputError, match=r"line 13: .*`strict`"):
        import_into(db, path, options=ImportOptions(strict=True))


def test_damage_costs_what_is_damaged(db: Path, tmp_path: Path) -> None:
    """In pretty JSON and arrays, too: what cannot be read is counted with its line, what follows is read."""
    pretty = [json.dumps(message, indent=1) for message in MESSAGES]
    (tmp_path / "pretty.json").write_text("\n".join([*pretty[:3], pretty[3][:200], *pretty[4:]]))
    (tmp_path / "cut.json").write_text(json.dumps(MESSAGES, indent=1)[:-400])
    lines = ",\n".join([LINES[0], LINES[1][:50], *LINES[2:]])
    (tmp_path / "array.json").write_text(f"[\n{lines}\n]")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress("".join(LINES).encode())[:-30])

    result = import_into(db, tmp_path)

    found = {name: numbers[:2] for name, numbers in counted(result).items()}
    assert found["pretty.json"] == (11, 1)
    assert found["cut.json"] == (11, 1)
    assert found["array.json"] in ((11, 1), (10, 1))
    assert found["cut.jsonl.gz"][1] >= 1
    assert any("the file ends in the middle of it" in problem for problem in result.ledger.total.problems)


def test_unknown_wrapping_is_named(db: Path, tmp_path: Path) -> None:
    """What looks like messages in a wrapping that nobody knows is an error that shows the first such line."""
    path = tmp_path / "odd.json"
    path.write_text(json.dumps({"payload_v7": LINES[0]}))

    with pytest.raises(InputError, match=r"may hold messages of Hubble, but in no wrapping that is known.*payload_v7"):
        import_into(db, path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Name:         cart\nNamespace:    shop\nLabels:       <none>\n", "kubectl describe"),
        ("NAMESPACE   NAME   TYPE        CLUSTER-IP\nshop  cart  ClusterIP  10.0.0.1\n", "a table that kubectl prints"),
        ("Nov 24 09:00:00.000: shop/front:41001 (ID:66247) -> shop/cart:8080 (ID:66258) to-endpoint FORWARDED (TCP Flags: SYN)\n", "save it with -o jsonpb"),
        ("nothing of ours\n", "is no recording"),
        ('{"requests": []}', "is no recording"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named_with_the_reason(
    text: str, reason: str, meshobs: Callable[..., Outcome], tmp_path: Path
) -> None:
    """Alone it is an error; beside a recording it is told and costs nothing; the text says what to do."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.txt").write_text(text)

    alone = meshobs("--db", tmp_path / "a.duckdb", "import", tmp_path / "in" / "x.txt")
    folder = meshobs("--db", tmp_path / "b.duckdb", "import", tmp_path / "in")
    (tmp_path / "in" / "good.jsonl").write_text("\n".join(LINES))
    beside = meshobs("--db", tmp_path / "c.duckdb", "import", tmp_path / "in")

    assert (alone.code, folder.code, beside.code) == (2, 2, 0)
    assert all(reason in outcome.err for outcome in (alone, folder, beside))
    assert "12 received = 12 stored + 0 duplicate + 0 filtered + 0 undecodable" in beside.err


def test_one_bad_file_of_several_stops_nothing(meshobs: Callable[..., Outcome], tmp_path: Path) -> None:
    """It is named and counted and the rest is read; with --strict it ends the import; a path that is not there does, too."""
    bad, good = tmp_path / "bad.json", tmp_path / "good.jsonl"
    bad.write_text('{"kind": "List", "items": [')
    good.write_text("\n".join(LINES))

    both = meshobs("--db", tmp_path / "a.duckdb", "import", bad, good)
    strict = meshobs("--db", tmp_path / "b.duckdb", "import", "--strict", bad, good)
    missing = meshobs("--db", tmp_path / "c.duckdb", "import", tmp_path / "no.jsonl", good)

    assert (both.code, strict.code, missing.code) == (0, 2, 2)
    assert "bad.json is no readable JSON document" in both.err
    assert "1 received = 0 stored + 0 duplicate + 0 filtered + 1 undecodable" in both.err
    assert "12 received = 12 stored" in both.err


def test_nothing_found_is_code_2(meshobs: Callable[..., Outcome], tmp_path: Path) -> None:
    """Files that were read and gave nothing are a failure, too."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"flow": {"verdict": "FORWARDED"}}\n')

    result = meshobs("--db", tmp_path / "x.duckdb", "import", path)

    assert result.code == 2
    assert "nothing was found: neither flows nor objects" in result.err


def write(folder: Path, files: dict[str, str]) -> Path:
    """Write files and return their folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return folder


def known(db: Path) -> list[list[tuple[Any, ...]]]:
    """Return what a database knows of services, backends and nodes."""
    with Store.open(db) as store:
        return [
            store.rows(
                "select cluster, service, affinity, addresses, known_from is not null from services order by all"
            ),
            store.rows("select cluster, service, address, port, node, ready from backends order by all"),
            store.rows("select cluster, node, pod_cidrs from nodes order by all"),
        ]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[list[tuple[Any, ...]]]:
    """Return what the plain form says."""
    folder = tmp_path_factory.mktemp("plain")
    mesh = shop_mesh()
    import_into(folder / "x.duckdb", mesh.write(folder / "in", watched=False))
    found = known(folder / "x.duckdb")
    assert [len(rows) for rows in found] == [2, 4, 4]
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_in_every_shape_say_the_same(
    shape: str, expected: list[list[tuple[Any, ...]]], db: Path, tmp_path: Path
) -> None:
    """Forms of kubectl, watches without times, typed lists and a sysdump's files give the same services, backends, nodes."""
    mesh = shop_mesh()
    folder = mesh.write(tmp_path / "in", watched=True)
    for cluster, objects in mesh.objects.items():
        (folder / f"watch-{cluster}-svc.jsonl").unlink()
        write(folder, SHAPES[shape](cluster, objects))

    result = import_into(db, folder)

    assert result.ledger.total.undecodable == 0, result.ledger.total.problems
    assert known(db) == expected
    assert any(re.search(r"\d (Pod|an object without a kind)", note) for note in result.notes)


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "tgz", "zip of zips"])
def test_a_sysdump_is_read_as_it_is(form: str, expected: list[list[tuple[Any, ...]]], db: Path, tmp_path: Path) -> None:
    """Folder or archive: its flows, its objects and its cluster's name, without a flag or a file's name."""
    mesh = shop_mesh()
    paths = []
    for cluster, objects in mesh.objects.items():
        files = sysdump(cluster, objects)
        folder = next(iter(files)).partition("/")[0]
        flows = [json.dumps(one) for one in flows_of(mesh, cluster)]
        files[f"{folder}/hubble-flows-cilium-x-20261124-090000.json"] = "\n".join(flows)
        paths.append(pack(tmp_path / cluster, files, form))
    if form == "zip of zips":
        outer = tmp_path / "both.zip"
        with zipfile.ZipFile(outer, "w") as archive:
            for path in paths:
                archive.write(path, f"dumps/{path.name}")
        paths = [outer]

    result = import_into(db, *paths)

    assert known(db) == expected
    assert (result.ledger.total.stored, result.ledger.total.undecodable) == (len(mesh.messages) - 1, 0)
    notes = "\n".join(result.notes)
    assert "hubble-observe-cilium-x-20261124-090000.log is empty" in notes
    assert "a table that kubectl prints" in notes


def flows_of(mesh: Mesh, cluster: str) -> list[dict[str, Any]]:
    """Return the flows that the nodes of a cluster saw, as the hubble CLI prints them."""
    from google.protobuf.json_format import MessageToDict

    return [
        MessageToDict(message, preserving_proto_field_name=True)
        for message in mesh.messages
        if message.HasField("flow") and message.node_name.startswith(f"{cluster}/")
    ]


def pack(path: Path, files: dict[str, str], form: str) -> Path:
    """Write files as a folder or an archive and return it."""
    if form == "folder":
        return write(path, files)
    path = path.with_suffix(".zip" if "zip" in form else ".tar.gz" if form == "tgz" else ".tar")
    if "zip" in form:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if form == "tgz" else "w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            tar.addfile(member, io.BytesIO(content.encode()))
    return path


def test_objects_of_nobody_are_counted_and_stop_nothing(db: Path, tmp_path: Path) -> None:
    """Where nothing says whose objects a file holds, it says what to do, and the flows are stored; --cluster says it."""
    mesh = shop_mesh()
    folder = mesh.write(tmp_path / "in", watched=True)
    for log in folder.glob("watch-*"):
        log.unlink()
    write(folder, {"objects.json": pretty(as_list([one for one in mesh.objects["west"] if one["kind"] == "Service"]))})

    result = import_into(db, folder)
    named = import_into(tmp_path / "y.duckdb", folder, options=ImportOptions(cluster="west"))

    assert (result.objects, result.ledger.total.undecodable, named.objects) == (0, 1, 1)
    assert result.ledger.total.stored == len(mesh.messages)
    assert "does not say whose objects it holds: name it k8s-CLUSTER.json" in result.ledger.total.problems[0]


@pytest.mark.parametrize("name", ["k8s-west-eu.json", "objects-west-eu.json", "objects.json"])
def test_objects_are_never_given_to_a_cluster_whose_name_is_only_near(name: str, db: Path, tmp_path: Path) -> None:
    """Flows of one cluster, objects of another whose nodes have the same names: they are not that cluster's."""
    mesh = shop_mesh()
    mesh.messages = [one for one in mesh.messages if one.node_name.startswith("west/")]
    folder = mesh.write(tmp_path / "in", watched=True)
    for log in folder.glob("watch-*"):
        log.unlink()
    services = [one for one in mesh.objects["west"] if one["kind"] == "Service"]
    write(folder, {name: pretty(as_list(services))})

    import_into(db, folder)

    with Store.open(db) as store:
        assert store.value("select count(*) from services where cluster = 'west'") == 0


def test_a_context_that_no_flow_knows_is_told(db: Path, tmp_path: Path) -> None:
    """Services alone in k8s-CONTEXT.json: whose they are cannot be seen, so the user hears what the flows call clusters."""
    mesh = shop_mesh()
    folder = mesh.write(tmp_path / "in", watched=True)
    services = [one for one in mesh.objects["west"] if one["kind"] == "Service"]
    write(folder, {"k8s-kind-west.json": pretty(as_list(services))})

    result = import_into(db, folder)

    assert any("no flow is of a cluster kind-west, only of east, west" in note for note in result.notes)


def test_changes_without_a_time_are_told(db: Path, tmp_path: Path) -> None:
    """`kubectl get -w` does not say when: the last state counts, as of the end; what was deleted is not there."""
    mesh = shop_mesh()
    service = next(one for one in mesh.objects["west"] if one["kind"] == "Service")
    changed = {**service, "metadata": {**service["metadata"], "annotations": GLOBAL}}
    gone = {**service, "metadata": {**service["metadata"], "name": "gone"}}
    events = [("ADDED", service), ("ADDED", gone), ("MODIFIED", changed), ("DELETED", gone)]
    path = tmp_path / "k8s-west.json"
    path.write_text("".join(pretty({"type": kind, "object": one}) for kind, one in events))

    result = import_into(db, path)

    with Store.open(db) as store:
        assert store.rows("select service, affinity from services") == [("back", "none")]
    assert any("2 changes of objects without the time they were received" in note for note in result.notes)


def test_endpoints_of_several_sets(db: Path, tmp_path: Path) -> None:
    """Each set of addresses has its own ports; what is not ready is a backend that is not ready; cut ones are told."""
    metadata = {
        "name": "back",
        "namespace": "shop",
        "annotations": {"endpoints.kubernetes.io/over-capacity": "truncated"},
    }
    subsets = [
        {"addresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 8080}, {"name": "b", "port": 81, "protocol": "UDP"}]},
        {"addresses": [{"ip": "10.0.0.2"}], "notReadyAddresses": [{"ip": "10.0.0.3"}], "ports": [{"port": 9090}]},
    ]
    path = tmp_path / "k8s-west.yaml"
    path.write_text(dump_yaml({"kind": "Endpoints", "metadata": metadata, "subsets": subsets}))

    result = import_into(db, path)

    with Store.open(db) as store:
        found = store.rows("select address, port, protocol, ready from backends order by all")
    assert found == [
        ("10.0.0.1", 81, "UDP", True),
        ("10.0.0.1", 8080, "TCP", True),
        ("10.0.0.2", 9090, "TCP", True),
        ("10.0.0.3", 9090, "TCP", False),
    ]
    assert any("Kubernetes left addresses out of Endpoints shop/back" in note for note in result.notes)


@pytest.mark.parametrize("answer", ["list nodes", "GetNodes", "pretty"])
def test_nodes_of_a_relay(answer: str, db: Path, tmp_path: Path) -> None:
    """`hubble list nodes -o json` is a list; GetNodes has them under a key."""
    nodes = [
        {"name": "west/west-1", "version": "cilium v1.19.6+g1", "state": "NODE_CONNECTED", "num_flows": "4095"},
        {"name": "east/east-1", "state": "NODE_UNAVAILABLE", "address": "10.0.0.1:4244"},
    ]
    document = {"list nodes": nodes, "GetNodes": {"GetNodes": {"nodes": nodes}}, "pretty": {"nodes": nodes}}[answer]
    path = tmp_path / "relay-west.json"
    path.write_text(json.dumps(document, indent=2 if answer == "pretty" else None))

    import_into(db, path)

    with Store.open(db) as store:
        found = store.rows("select cluster, node, state, num_flows from relay_nodes order by all")
    assert found == [("east", "east-1", "NODE_UNAVAILABLE", None), ("west", "west-1", "NODE_CONNECTED", 4095)]


def old_flow(node: str, source: dict[str, Any], destination: dict[str, Any], at: int) -> str:
    """Return a line of Hubble 1.8: a bare flow, a node without its cluster, no uuid."""
    return json.dumps(
        {
            "time": f"2026-11-24T09:00:00.{at:09}Z",
            "verdict": "FORWARDED",
            "IP": {"source": "10.0.0.1", "destination": "10.0.0.2"},
            "source": source,
            "destination": destination,
            "node_name": node,
        }
    )


def test_nodes_of_bare_flows_are_of_the_cluster_that_their_own_endpoints_say(db: Path, tmp_path: Path) -> None:
    """An endpoint with an ID is the node's own. A name of two clusters' nodes is told by each flow, else `default`."""

    def end(cluster: str, number: int = 0) -> dict[str, Any]:
        labels = [f"k8s:io.cilium.k8s.policy.cluster={cluster}", "k8s:app=x"]
        return {"identity": 66247, "labels": labels, **({"ID": number} if number else {})}

    host = {"identity": 1, "labels": ["reserved:host"]}
    ends = [
        ("a1", host, end("cobalt")),  # nothing of its own: the node is known by its other flows
        ("a1", end("amber", 7), end("cobalt")),
        ("c1", end("amber"), end("cobalt", 8)),
        ("worker", end("amber", 9), host),
        ("worker", host, end("cobalt", 9)),
        ("worker", host, host),
        ("cobalt/c2", end("cobalt", 3), host),
        ("unlabelled", host, host),
    ]
    path = tmp_path / "old.jsonl"
    path.write_text("\n".join(old_flow(*one, number) for number, one in enumerate(ends)))

    import_into(db, path)
    again = import_into(db, path).ledger.total

    with Store.open(db) as store:
        found = [f"{cluster}/{node}" for cluster, node in store.rows("select cluster, node from flows order by time")]
    assert found == [
        "amber/a1", "amber/a1", "cobalt/c1", "amber/worker", "cobalt/worker", "default/worker", "cobalt/c2",
        "default/unlabelled",
    ]  # fmt: skip
    assert (again.stored, again.duplicate) == (0, len(ends))


_JUNK = st.one_of(
    st.text(max_size=40),
    st.sampled_from([*LINES[:3], LINES[0][:70], AGENT_JSON, AGENT_TEXT, '{"flow":{}}', '{"flow":5}', "[", "{", "}", '"']),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["flow", "time", "IP", "source", "items", "kind", "metadata", "type", "object", "nodes", "log", "message",
                 "_source", "data", "result", "values", "hits", "spec", "endpoints", "labels", "name", "node_status"]
            ),
            inner,
            max_size=4,
        ),
        max_leaves=8,
    ).map(json.dumps),
)  # fmt: skip


@given(
    files=st.lists(
        st.tuples(
            st.sampled_from(["a.jsonl", "k8s-x.json", "b.log", "c.yaml", "watch-x-svc.jsonl", "d.bin", "e.zip"]),
            st.lists(_JUNK, max_size=6),
            st.sampled_from(["\n", ",\n", "", "\r\n", "\n---\n"]),
            st.sampled_from(["", f"{AT} stdout F ", "[", "- ", "\x00", "PK\x03\x04"]),
        ),
        min_size=1,
        max_size=2,
    )
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_input_ends_in_counters(files: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever is given: no crash but a reason for the user, and each line is in one counter."""
    folder = tmp_path_factory.mktemp("any")
    for name, parts, between, before in files:
        (folder / name).write_bytes(between.join(before + part for part in parts).encode(errors="replace"))
    (folder / "good.jsonl").write_text("\n".join(LINES))

    result = import_into(folder / "x.duckdb", folder)

    for entry in result.ledger.entries:
        counts = entry.counts
        assert counts.received == counts.stored + counts.duplicate + counts.filtered + counts.undecodable
    plain = [entry for entry in result.ledger.entries if entry.name.endswith("good.jsonl")]
    assert plain[0].counts.received == len(LINES)


@given(parts=st.lists(_JUNK, max_size=12))
@settings(max_examples=8, deadline=None)
def test_each_line_is_in_one_counter(parts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Lines = stored + duplicates + filtered + undecodable + of something else, bare and in a wrapping."""
    folder = tmp_path_factory.mktemp("any")
    lines = [line for part in parts for line in part.split("\n") if line.strip()]
    (folder / "plain.jsonl").write_text("\n".join([LINES[0], *lines]), newline="")
    (folder / "cri.log").write_text("\n".join(f"{AT} stdout F {line}" for line in [LINES[0], *lines]), newline="")

    result = import_into(folder / "x.duckdb", folder)

    for entry in result.ledger.entries:
        assert entry.counts.received + entry.counts.foreign == len(lines) + 1, entry


@pytest.mark.parametrize("form", ["zip", "tgz"])
def test_an_archive_that_is_cut_off_is_told(form: str, db: Path, tmp_path: Path) -> None:
    """What can be read of it is read; the rest is named and counted; what lies beside it is not lost."""
    folder = tmp_path / "in"
    write(folder, {"good.jsonl": "\n".join(LINES)})
    whole = pack(folder / "a", {"one.jsonl": "\n".join(LINES), "two.jsonl": "\n".join(LINES)}, form)
    whole.write_bytes(whole.read_bytes()[:-200])

    result = import_into(db, folder)

    assert result.ledger.total.stored == len(LINES)
    assert result.ledger.total.undecodable >= 1
    assert any("archive" in problem for problem in result.ledger.total.problems)
    assert len(result.ledger.total.problems) == len(set(result.ledger.total.problems))


def test_an_archive_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was unpacked is gone after the import."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    path = pack(tmp_path / "a", {"one.jsonl": "\n".join(LINES), "notes.txt": "x"}, "zip")

    assert import_into(tmp_path / "x.duckdb", path).ledger.total.stored == len(LINES)

    gc.collect()
    assert not list(tmp_path.glob("meshobs-*"))
