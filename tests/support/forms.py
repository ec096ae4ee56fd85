"""Recordings as people have them: the same messages in every wrapping, the same objects in every shape of kubectl."""

import csv
import gzip
import io
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any, TypeAlias

import yaml

from support.handmade_mesh import GLOBAL, LOCAL, Mesh
from support.recordings import RECORDINGS

# Lines of messages in, a file's text out.
Form: TypeAlias = Callable[[list[str]], str]

with gzip.open(RECORDINGS / "global-none" / "west.jsonpb.gz", "rt") as _stream:
    LINES = [next(_stream).rstrip("\n") for _ in range(12)]
MESSAGES = [json.loads(line) for line in LINES]
AT = "2026-11-24T09:00:00.123456789Z"
AGENT_JSON = json.dumps(
    {"time": AT, "level": "info", "source": "/go/src/github.com/cilium/bpf.go:700", "msg": "Reloaded", "IP": "10.0.0.1"}
)
AGENT_TEXT = f'time="{AT}" level=info msg="Reloaded endpoint BPF program" subsys=endpoint'


def value_of(line: str) -> dict[str, Any]:
    """Return a line as JSON; what is no object as the text of one."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"text": line}


def per_line(wrap: Callable[[str], str]) -> Form:
    """Return a form that wraps each line."""
    return lambda lines: "".join(wrap(line) + "\n" for line in lines)


def fields(**rest: Any) -> Callable[[Callable[[str], dict[str, Any]]], Callable[[str], str]]:
    """Return a wrapper in JSON with further keys."""
    return lambda inner: lambda line: json.dumps({**rest, **inner(line)})


def quoted(line: str) -> str:
    """Return a line as Go quotes it in logfmt."""
    return json.dumps(line)


def cri_in_parts(lines: list[str]) -> str:
    """Return CRI lines of which each message takes three."""
    found = []
    for line in lines:
        cuts = [0, len(line) // 3, len(line) // 2, len(line)]
        tags = ["P", "P", "F"]
        found += [f"{AT} stdout {tag} {line[a:b]}" for tag, (a, b) in zip(tags, pairwise(cuts), strict=True)]
    return "\n".join(found)


def docker_in_parts(lines: list[str]) -> str:
    """Return Docker's lines with messages longer than it writes at once."""
    found = []
    for message in map(value_of, lines):
        line = json.dumps({**message, "padding": "x " * 20_000}) + "\n"
        parts = [line[at : at + 16_384] for at in range(0, len(line), 16_384)]
        found += [json.dumps({"log": part, "stream": "stdout", "time": AT}) for part in parts]
    return "\n".join(found)


def as_csv(*head: str) -> Form:
    """Return a form: a table whose last column holds the lines."""

    def table_of(lines: list[str]) -> str:
        out = io.StringIO()
        table = csv.writer(out)
        table.writerow(head)
        table.writerows([*("x" for _ in head[1:]), line] for line in lines)
        return out.getvalue()

    return table_of


POD = {"namespace_name": "kube-system", "pod_name": "cilium-x"}
# What people have: how messages stand in a file, by the name of one.
FORMS: dict[str, Form] = {
    "cri.log": per_line(lambda line: f"{AT} stdout F {line}"),
    "cri-zone.log": per_line(lambda line: f"2026-11-24T09:00:00.1+01:00 stderr F {line}\r"),
    "cri-parts.log": cri_in_parts,
    "docker.log": per_line(lambda line: json.dumps({"log": line + "\n", "stream": "stdout", "time": AT})),
    "docker-parts.log": docker_in_parts,
    "kubectl-prefix.log": per_line(lambda line: f"[pod/cilium-x/cilium-agent] {line}"),
    "kubectl-times.log": per_line(lambda line: f"{AT} {line}"),
    "kubectl-both.log": per_line(lambda line: f"[pod/cilium-x/cilium-agent] {AT} {line}"),
    "kubectl-cri.log": per_line(lambda line: f"[pod/x/y] {AT} {AT} stdout F {line}"),
    "docker-compose.log": per_line(lambda line: f"observer-1  | {line}"),
    "stern.log": per_line(lambda line: f"cilium-x cilium-agent {line}"),
    "syslog.log": per_line(lambda line: f"<14>1 {AT} host hubble 1 - - {line}"),
    "agent-logfmt.log": per_line(lambda line: f'time="{AT}" level=info msg={quoted(line)} subsys=hubble'),
    "agent-slog.log": per_line(lambda line: json.dumps({"time": AT, "level": "info", "msg": line})),
    "fluent-bit.log": per_line(fields(date=1.5, kubernetes=POD)(lambda line: {"log": line + "\n"})),
    "fluent-bit-merged.json": per_line(fields(kubernetes=POD, stream="stdout")(value_of)),
    "fluent-bit-key.json": per_line(fields(log="x")(lambda line: {"log_processed": value_of(line)})),
    "vector.json": per_line(fields(source_type="kubernetes_logs", file="/var/log/x")(lambda line: {"message": line})),
    "vector-parsed.json": per_line(fields(source_type="file")(lambda line: {"message": value_of(line)})),
    "logcli.jsonl": per_line(fields(labels={"a": "b"}, timestamp=AT)(lambda line: {"line": line})),
    "loki-query.json": lambda lines: json.dumps(
        {"status": "success", "data": {"resultType": "streams", "result": [
            {"stream": {"pod": "x"}, "values": [["1795400000000000000", line] for line in lines[:5]]},
            {"stream": {"pod": "y"}, "values": [["1795400000000000000", line] for line in lines[5:]]},
        ], "stats": {}}}
    ),
    "loki-push.json": lambda lines: json.dumps({"streams": [{"stream": {}, "values": [["1", line] for line in lines]}]}, indent=1),
    "elastic-search.json": lambda lines: json.dumps(
        {"took": 3, "hits": {"total": {"value": 12}, "hits": [{"_index": "x", "_source": {"message": line}} for line in lines]}}
    ),
    "elastic-dump.json": per_line(fields(_index="x", _id="1")(lambda line: {"_source": {"@timestamp": AT, **value_of(line)}})),
    "splunk-hec.json": per_line(fields(time=1.5, host="x")(lambda line: {"event": value_of(line)})),
    "splunk-hec-text.json": per_line(fields(time=1.5, host="x")(lambda line: {"event": line})),
    "splunk-export.json": per_line(fields(preview=False, offset=1)(lambda line: {"result": {"_raw": line, "_time": AT}})),
    "splunk-results.json": lambda lines: json.dumps({"preview": False, "results": [{"_raw": line} for line in lines]}),
    "azure-cli.json": lambda lines: json.dumps(
        [{"TableName": "PrimaryResult", "TimeGenerated": AT, "LogMessage": line} for line in lines], indent=2
    ),
    "azure-dynamic.json": lambda lines: json.dumps([{"LogMessage": value_of(line), "PodName": "x"} for line in lines]),
    "azure-v1.json": lambda lines: json.dumps([{"LogEntry": line} for line in lines]),
    "kusto-v1.json": lambda lines: json.dumps(
        {"Tables": [{"TableName": "Table_0", "Columns": [{"ColumnName": "t"}], "Rows": [[AT, line] for line in lines]}]}
    ),
    "kusto-v2.json": lambda lines: json.dumps(
        [{"FrameType": "DataSetHeader", "Version": "v2.0"}, {"FrameType": "DataTable", "Rows": [[AT, line] for line in lines]}]
    ),
    "azure-query.json": lambda lines: json.dumps({"tables": [{"name": "PrimaryResult", "columns": [], "rows": [[AT, line] for line in lines]}]}),
    "google.json": lambda lines: json.dumps([{"jsonPayload": value_of(line), "resource": {}} for line in lines], indent=2),
    "journal.json": per_line(fields(PRIORITY="6")(lambda line: {"MESSAGE": line})),
    "cloudwatch.json": lambda lines: json.dumps({"events": [{"timestamp": 1, "message": line} for line in lines]}),
    "otlp.json": lambda lines: json.dumps(
        {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": line}} for line in lines]}]}]}
    ),
    "splunk.csv": as_csv("_time", "host", "_raw"),
    "azure-portal.csv": as_csv("TimeGenerated [UTC]", "LogMessage"),
    "one-column.csv": as_csv("line"),
    "logcli.log": per_line(lambda line: f'2026-11-24T10:00:00+01:00 {{pod="x", app="y"}} {line}'),
    "grafana.txt": per_line(lambda line: f"1795400000000\t2026-11-24T09:00:00.123Z\t{line}"),
    "pretty.jsonl": lambda lines: "\n".join(json.dumps(message, indent=2) for message in map(value_of, lines)),
    "pretty-array.json": lambda lines: json.dumps([*map(value_of, lines)], indent=4),
    "array.json": lambda lines: json.dumps([*map(value_of, lines)]),
    "array-of-lines.txt": lambda lines: "[\n" + ",\n".join(lines) + "\n]\n",
    "concatenated.json": "".join,
    "after-noise.json": lambda lines: "Handling connection for 4245\n" + "\n".join(json.dumps(message, indent=2) for message in map(value_of, lines)),
    "windows.jsonl": "\r\n".join,
    "flows.ndjson": "\n".join,
    "flows.txt": "\n".join,
    "flows.json.2": "\n".join,
}  # fmt: skip


Objects = list[dict[str, Any]]


def shop_mesh() -> Mesh:
    """Return a mesh with a client's calls of a service that has backends in both clusters."""
    mesh = Mesh()
    client = mesh.pod("west", "front")
    backends = {cluster: [mesh.pod(cluster, f"back-{n}", n) for n in (1, 2)] for cluster in mesh.clusters}
    for cluster, annotations in (("west", LOCAL), ("east", GLOBAL)):
        mesh.service(cluster, "back", backends[cluster], annotations=annotations)
    for owner in backends.values():
        for one in owner:
            mesh.call(client, one)
    for cluster, objects in mesh.objects.items():
        for service in [one for one in objects if one["kind"] == "Service"]:
            service["spec"]["type"] = "ClusterIP"
        for node in [one for one in objects if one["kind"] == "Node"]:
            node["status"]["nodeInfo"] = {"kubeletVersion": "v1.33.0"}
        objects.append({"kind": "Pod", "metadata": {"name": "x", "namespace": cluster}})
        objects.append(config_map(cluster))
    return mesh


def config_map(cluster: str) -> dict[str, Any]:
    """Return cilium-config."""
    return {
        "kind": "ConfigMap",
        "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": {"cluster-name": cluster, "cluster-id": "1" if cluster == "west" else "2"},
    }


def pretty(document: object) -> str:
    """Return what kubectl prints with -o json."""
    return json.dumps(document, indent=4) + "\n"


def as_list(objects: Objects) -> dict[str, Any]:
    """Return what kubectl makes of several objects."""
    return {"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}}


def typed_lists(objects: Objects) -> list[dict[str, Any]]:
    """Return a list for each kind, whose items do not say theirs."""
    found = []
    for kind in dict.fromkeys(one["kind"] for one in objects):
        of_kind = [
            {key: value for key, value in one.items() if key != "kind"} for one in objects if one["kind"] == kind
        ]
        found.append({"kind": f"{kind}List", "apiVersion": "v1", "metadata": {}, "items": of_kind})
    return found


def endpoints(objects: Objects) -> Objects:
    """Return the objects with Endpoints in the place of EndpointSlices."""
    found = []
    for one in objects:
        if one["kind"] != "EndpointSlice":
            found.append(one)
            continue
        addresses = [{"ip": each["addresses"][0], "nodeName": each["nodeName"]} for each in one["endpoints"]]
        metadata = {"name": one["metadata"]["labels"]["kubernetes.io/service-name"], "namespace": "shop"}
        subsets = [{"addresses": addresses, "ports": one["ports"]}]
        found.append({"kind": "Endpoints", "metadata": metadata, "subsets": subsets})
    return found


def dump_yaml(*documents: object) -> str:
    """Return documents as kubectl prints them with -o yaml."""
    return "---\n".join(yaml.safe_dump(document) for document in documents)


SHAPES: dict[str, Callable[[str, Objects], dict[str, str]]] = {
    "list": lambda c, o: {f"k8s-{c}.json": pretty(as_list(o))},
    "one-line": lambda c, o: {f"k8s-{c}.json": json.dumps(as_list(o))},
    "two-documents": lambda c, o: {f"k8s-{c}.json": pretty(as_list(o[:3])) + pretty(as_list(o[3:]))},
    "single-objects": lambda c, o: {f"k8s-{c}.json": "".join(map(pretty, o))},
    "lines": lambda c, o: {f"k8s-{c}.jsonl": "\n".join(map(json.dumps, o))},
    "array": lambda c, o: {f"k8s-{c}.json": pretty(o)},
    "yaml": lambda c, o: {f"k8s-{c}.yaml": dump_yaml(as_list(o))},
    "yaml-documents": lambda c, o: {f"k8s-{c}.yml": dump_yaml(*o)},
    "yaml-two-lists": lambda c, o: {f"k8s-{c}.yaml": dump_yaml(as_list(o[:3]), as_list(o[3:]))},
    "typed-lists": lambda c, o: {f"k8s-{c}.json": "".join(map(pretty, typed_lists(o)))},
    "typed-lists-sorted": lambda c, o: {
        f"k8s-{c}.json": "".join(json.dumps(one, sort_keys=True) for one in typed_lists(o) if one["kind"] != "EndpointSliceList")
        + pretty(as_list([one for one in o if one["kind"] == "EndpointSlice"]))
    },
    "typed-yaml": lambda c, o: {f"k8s-{c}.yaml": dump_yaml(*[one for one in typed_lists(o) if one["kind"] != "PodList"][:1], as_list(o))},
    "endpoints": lambda c, o: {f"k8s-{c}.json": pretty(as_list(endpoints(o)))},
    "endpoints-and-slices": lambda c, o: {f"k8s-{c}.json": pretty(as_list(endpoints(o))) + pretty(as_list(o))},
    "get-w": lambda c, o: {f"k8s-{c}.json": "".join(map(pretty, [*o, *o]))},
    "watch-events": lambda c, o: {f"k8s-{c}.json": "".join(pretty({"type": "ADDED", "object": one}) for one in o)},
    "raw-watch": lambda c, o: {f"watch-{c}-svc.jsonl": "\n".join(json.dumps({"type": "ADDED", "object": one}) for one in o)},
    "context-name": lambda c, o: {f"k8s-kind-{c}.json": pretty(as_list(o))},
    "context-by-nodes": lambda c, o: {f"k8s-admin@{c}.json": pretty(as_list(o[:-1]))},
    "no-name": lambda c, o: {f"{c}/objects.json": pretty(as_list(o)), f"{c}/relay.txt": "nothing"},
    "no-name-one-folder": lambda c, o: {f"objects-of-{c}.json": pretty(as_list(o))},
    "kind-and-cluster": lambda c, o: {
        f"{one['kind'][:-4].lower()}s-{c}.json": pretty(one) for one in typed_lists(o) if one["kind"] != "ConfigMapList"
    },
    "folder-of-cluster": lambda c, o: {
        f"{c}/{one['kind'][:-4].lower()}s.json": pretty(one) for one in typed_lists(o) if one["kind"] != "ConfigMapList"
    },
    "no-name-by-nodes": lambda c, o: {f"objects-of-{c}.yaml": dump_yaml(as_list(o[:-1]))},
    "files-of-kinds": lambda c, o: {f"{c}/{one['kind']}.yaml": dump_yaml(one) for one in typed_lists(o)},
}  # fmt: skip


def sysdump(cluster: str, objects: Objects) -> dict[str, str]:
    """Return files as `cilium sysdump` writes them: typed lists in YAML with the time in their names, and more."""
    at = "20261124-090000"
    names = {
        "ServiceList": "k8s-services", "EndpointsList": "k8s-endpoints", "NodeList": "k8s-nodes", "PodList": "k8s-pods"
    }  # fmt: skip
    folder = f"cilium-sysdump-{cluster}-{at}"
    found = {
        f"{folder}/{names[one['kind']]}-{at}.yaml": dump_yaml(one)
        for one in typed_lists(endpoints(objects))
        if one["kind"] in names
    }
    return found | {
        f"{folder}/cilium-configmap-{at}.yaml": dump_yaml({"apiVersion": "v1", **config_map(cluster)}),
        f"{folder}/cilium-daemonset-{at}.yaml": dump_yaml({"kind": "DaemonSet", "metadata": {"name": "cilium"}}),
        f"{folder}/k8s-pods-{at}.txt": "NAMESPACE  NAME  READY\nkube-system  cilium-x  1/1\n",
        f"{folder}/logs-cilium-x-cilium-agent-{at}.log": f"{AGENT_TEXT}\n" * 50,
        f"{folder}/hubble-observe-cilium-x-{at}.log": "",
        f"{folder}/k8s-version-{at}.txt": "&version.Info{}",
    }


SHAPES["sysdump"] = sysdump
