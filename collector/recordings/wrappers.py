"""Known wrappings of Hubble's lines: what container runtimes, log shippers and log stores make of them.

Each is one function, a line in and the line inside it out, None if the line is not wrapped so. A new one is a function
and a row of `WRAPPERS`; how it is told apart from the others stands in the function.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meshobs.collector.kube.document import Json, at, parse
from meshobs.collector.recordings.framing import LONGEST

# Keys of the messages of Hubble, in the two spellings of protobuf's JSON.
HUBBLE = frozenset(
    {"flow", "lost_events", "node_status", "agent_event", "debug_event"}
    | {"lostEvents", "nodeStatus", "agentEvent", "debugEvent"}
)
# What every line with a message has, however often it is quoted: a key of HUBBLE or of a bare flow.
# Nothing repeats before the key: in a run of quotes a search would look at the rest of it from each of them.
MARK = re.compile(rb'"(?:flow|lost_?[eE]vents|node_?[sS]tatus|agent_?[eE]vent|debug_?[eE]vent|IP|verdict)\\*"+\s*:')
# The same of the messages that are no bare flows, whose keys are not Hubble's alone.
SURE_MARK = re.compile(rb'"(?:flow|lost_?[eE]vents|node_?[sS]tatus|agent_?[eE]vent|debug_?[eE]vent)\\*"+\s*:')
# Wrappers inside wrappers: kubectl's prefix, its time, a log line of the agent, and one more.
_DEEPEST = 4
# Docker cuts longer lines.
_DOCKER_CUT = 16 * 2**10 - 1


@dataclass(frozen=True)
class Wrapper:
    """A known wrapping.

    Attributes:
        name: as the user is told.
        source: where its form is described.
        inner: the line inside a line.
        goes_on: whether a line is only the first part of one.
    """

    name: str
    source: str
    inner: Callable[[bytes], bytes | None]
    goes_on: Callable[[bytes], bool] = lambda _line: False


_CRI = re.compile(rb"\d{4}-\d\d-\d\dT\S+ (?:stdout|stderr) ([FP])(?::\S*)? (.*)", re.DOTALL)


def _cri(line: bytes) -> bytes | None:
    match = _CRI.fullmatch(line)
    return match[2] if match else None


def _cri_goes_on(line: bytes) -> bool:
    match = _CRI.fullmatch(line)
    return bool(match and match[1] == b"P")


_KUBECTL_PREFIX = re.compile(rb"\[pod/[^\]\s]+\] ?(.*)", re.DOTALL)


def _kubectl_prefix(line: bytes) -> bytes | None:
    match = _KUBECTL_PREFIX.fullmatch(line)
    return match[1] if match else None


_TIMESTAMP = re.compile(rb"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\s+(.*)", re.DOTALL)


def _timestamp(line: bytes) -> bytes | None:
    match = _TIMESTAMP.fullmatch(line)
    return match[1] if match else None


_LOGFMT = re.compile(rb'(?:^|\s)(?:msg|message)=("(?:[^"\\]|\\.)*")')


def _logfmt(line: bytes) -> bytes | None:
    match = _LOGFMT.search(line)
    found = parse(match[1]) if match else None
    return found.encode(errors="replace") if isinstance(found, str) else None


def _docker(line: bytes) -> bytes | None:
    found = parse(line)
    return _inner(at(found, "log")) if {"log", "stream", "time"} <= _keys(found) else None


def _docker_goes_on(line: bytes) -> bool:
    text = at(parse(line), "log")
    return isinstance(text, str) and len(text) >= _DOCKER_CUT and not text.endswith("\n")


def _fluent_bit(line: bytes) -> bytes | None:
    # The rest of the line may be anything: filters add keys. Merged keys make the line itself a message.
    return _at_path(line, ("log_processed",), ("log",))


def _vector(line: bytes) -> bytes | None:
    found = parse(line)
    return _inner(at(found, "message")) if _keys(found) & {"source_type", "kubernetes", "file"} else None


def _logcli(line: bytes) -> bytes | None:
    return _at_path(line, ("line",))


def _cells(line: bytes) -> bytes | None:
    # Loki's [time, line], a row of Kusto: whichever cell holds a message.
    found = parse(line) if line[:1] == b"[" else None
    cells = (_inner(cell) for cell in found) if isinstance(found, list) else iter(())
    return next((cell for cell in cells if cell and MARK.search(cell)), None)


def _elastic(line: bytes) -> bytes | None:
    return _at_path(line, ("_source", "message"), ("_source", "log"), ("_source", "event", "original"), ("_source",))


def _splunk(line: bytes) -> bytes | None:
    return _at_path(line, ("result", "_raw"), ("_raw",), ("event",))


def _azure(line: bytes) -> bytes | None:
    return _at_path(line, ("LogMessage",), ("LogEntry",), ("properties", "log"), ("properties", "message"))


def _google(line: bytes) -> bytes | None:
    return _at_path(line, ("jsonPayload", "message"), ("jsonPayload",), ("textPayload",))


def _otlp(line: bytes) -> bytes | None:
    return _at_path(line, ("body", "stringValue"), ("Body",), ("body",))


def _journal(line: bytes) -> bytes | None:
    return _at_path(line, ("MESSAGE",))


def _message(line: bytes) -> bytes | None:
    # Last of those with keys: CloudWatch, logstash, the agent's own JSON log.
    return _at_path(line, ("message",), ("msg",), ("@message",), ("data",), ("value",))


_OPENED = re.compile(rb'\{\s*"[A-Za-z_]+"\s*:')


def _prefix(line: bytes) -> bytes | None:
    # Syslog, docker compose, stern, logcli: any text, then the line.
    line = line.rstrip()
    match = _OPENED.search(line) if line[:1] != b"{" and line.endswith(b"}") else None
    return line[match.start() :] if match else None


# Name, where its form is described, the line inside, whether a line goes on.
WRAPPERS = (
    Wrapper(
        "CRI (containerd, CRI-O)",
        "kubernetes/design-proposals-archive: node/kubelet-cri-logging.md",
        _cri,
        _cri_goes_on,
    ),
    Wrapper("kubectl logs --prefix", "kubernetes.io: kubectl logs", _kubectl_prefix),
    Wrapper("a time before each line", "kubectl logs --timestamps, docker logs --timestamps", _timestamp),
    Wrapper('msg="..." (logfmt)', "github.com/cilium/cilium/issues/31422", _logfmt),
    Wrapper("Docker's json-file", "docs.docker.com/engine/logging/drivers/json-file", _docker, _docker_goes_on),
    Wrapper("fluent-bit", "docs.fluentbit.io/manual/pipeline/filters/kubernetes", _fluent_bit),
    Wrapper("Vector", "vector.dev/docs/reference/configuration/sources/kubernetes_logs", _vector),
    Wrapper("Loki (logcli -o jsonl)", "grafana.com/docs/loki/latest/query/logcli", _logcli),
    Wrapper(
        "rows with the line in a cell (Loki, Kusto, Azure Log Analytics)",
        "grafana.com/docs/loki/latest/reference/loki-http-api, learn.microsoft.com/kusto/api/rest/response-http",
        _cells,
    ),
    Wrapper("Elasticsearch (_source)", "elastic.co/docs/api/doc/elasticsearch/operation/operation-search", _elastic),
    Wrapper("Splunk (_raw, event)", "docs.splunk.com: Format events for HTTP Event Collector", _splunk),
    Wrapper("Azure Log Analytics", "learn.microsoft.com/azure/azure-monitor/reference/tables/containerlogv2", _azure),
    Wrapper("Google Cloud Logging", "cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry", _google),
    Wrapper("OpenTelemetry", "opentelemetry.io/docs/specs/otlp", _otlp),
    Wrapper("the systemd journal in JSON", "systemd.io/JOURNAL_EXPORT_FORMATS", _journal),
    Wrapper("a key that holds the line (message, msg)", "logstash, CloudWatch, JSON logs of Cilium 1.18", _message),
    Wrapper("text before each line", "syslog (RFC 5424), docker compose logs, stern, logcli", _prefix),
)


def chain_of(line: bytes, depth: int = _DEEPEST) -> tuple[Wrapper, ...] | None:
    """Return the wrappers around the message in a line, the outermost first; None if no message is found in it."""
    if not MARK.search(line):
        return None
    line = line.strip()
    if line[:1] == b"{" and is_message(parse(line)):
        return ()
    if depth:
        for wrapper in WRAPPERS:
            inner = wrapper.inner(line)
            if inner is not None and inner != line and (rest := chain_of(inner, depth - 1)) is not None:
                return (wrapper, *rest)
    return None


def is_message(value: Json) -> bool:
    """Tell whether a JSON value is a message of Hubble or a bare flow: it has a time, and ends of Hubble's shape."""
    keys = _keys(value)
    if keys & HUBBLE:
        return any(isinstance(at(value, key), dict) for key in keys & HUBBLE)
    return "time" in keys and (
        isinstance(at(value, "IP", "source"), str)
        or bool(_keys(at(value, "source")) & _ENDPOINT or _keys(at(value, "destination")) & _ENDPOINT)
        or (bool(keys & {"node_name", "nodeName"}) and "verdict" in keys and not keys & _LOG)
    )


_LOG = frozenset({"level", "severity", "msg", "message"})
_ENDPOINT = frozenset({"identity", "labels", "pod_name", "podName", "ID"})


def unwrap(
    lines: Iterator[tuple[int, bytes | str]], chain: Sequence[Wrapper]
) -> Iterator[tuple[int, bytes | str | None]]:
    """Yield what is inside of lines: a message, None for a line of something else, a text for what cannot be read.

    A line that is wrapped in another way than the others is looked at anew.
    """
    outermost, number = chain[0], 0
    parts: list[bytes] = []
    for number, line in lines:
        if isinstance(line, str):
            yield number, line
            continue
        inner = outermost.inner(line.rstrip(b"\r"))
        if inner is not None and (parts or outermost.goes_on(line)):
            parts.append(inner)
            if outermost.goes_on(line) and sum(map(len, parts)) <= LONGEST:
                continue
            inner, parts = b"".join(parts), []
        for wrapper in chain[1:]:
            inner = wrapper.inner(inner) if inner is not None else None
        yield number, _checked(line, inner)
    if parts:
        yield number, "the last line is not whole"


def _checked(line: bytes, inner: bytes | None) -> bytes | None:
    """Return the message in a line, None if there is none."""
    if inner is not None and MARK.search(inner) and inner.lstrip()[:1] == b"{":
        return inner
    if not MARK.search(line):
        return None
    found: bytes | None = line
    for wrapper in chain_of(line) or ():
        found = wrapper.inner(found) if found is not None else None
    return found


def _at_path(line: bytes, *paths: tuple[str, ...]) -> bytes | None:
    """Return what stands at the first of the paths that holds anything with a message."""
    found = parse(line) if line[:1] == b"{" else None
    inner = [text for path in paths if (text := _inner(at(found, *path))) is not None]
    return next((text for text in inner if MARK.search(text)), inner[0] if inner else None)


def _inner(value: Json) -> bytes | None:
    """Return a line that stands as text or as an object in JSON."""
    if isinstance(value, str):
        return value.rstrip("\r\n").encode(errors="replace")
    return json.dumps(value).encode(errors="replace") if isinstance(value, dict) else None


def _keys(value: Json) -> frozenset[str]:
    return frozenset(value) if isinstance(value, dict) else frozenset()
