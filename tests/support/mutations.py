"""What may happen to a recording before it is given: pure functions, text or bytes in and damaged ones out.

Each takes its randomness from the caller, so that the same number always gives the same damage.
"""

import gzip
import io
import json
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable
from random import Random
from typing import TypeAlias

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Text that takes the place of a JSON value: what readers do not expect there.
ODD_VALUES = (
    "null", "true", "0", "-1", "1.5", "1e400", "-1e28", "NaN", "-Infinity", "1" * 5000, "9" * 40,
    "2147483648", "4294967296", "9223372036854775807", "9223372036854775808", "18446744073709551615",
    '""', '"x"', '"0"', '"-1"', '"\\ud800"', '"\\udfff\\ud800"', '"a\\u0000b"', '"\\u0000"', '"\\n"', '"\'"', '"\\""', '"{"',
    '"' + "1" * 5000 + '"', '"99999999999999999999"', '"9223372036854775807"', '"NaN"', '"infinity"', '"-infinity"', '"epoch"',
    '"9999-12-31T23:59:59.999999999Z"', '"0001-01-01T00:00:00+14:00"', '"2262-04-11T23:47:16.854775807Z"',
    '"1677-09-21T00:12:43.145224193Z"', '"1969-12-31T23:59:59Z"', '{"seconds": 9223372036854775807}', '{"seconds": "1", "nanos": 1e30}',
    '{"seconds": -62135596800}', "9e18", "1e16", "-99999999999999999999999999", '"{not json"', '"{\\"seconds\\": 1e18}"',
    '"10.0.0.0/99"', '"999.1.1.1"', '"::"', '":::::::::"', '"fe80::1%eth0"', '"0.0.0.0/0"', '"::/0"', '"::/128"', '"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/1"',
    '"12345::1"', '"a/b/c"', '"/"', '"west/"', '"/west-1"', '"' + "x" * 70_000 + '"', '"\U0001f600"', '"\\u202e"',
    "[]", "{}", "[[]]", "[null]", "[{}]", '["x"]', '{"": ""}', '{"a": 1, "a": 2}', "[" * 990 + "]" * 990, '{"a":' * 980 + "1" + "}" * 980,
    "[" * 20_000 + "]" * 20_000, "[" * 5000, '{"a":' * 5000, "01", "tru", "'x'", "\x00", "&a [*a]", "*a", "!!python/object:x {}", "!!binary x",
    "!!timestamp 2001-01-01", "{? [a] : 1}", "{1: 2, a: 3}", "{null: 1}", "0x1F", "1_000", "1:30", "~", "2026-01-01", "=", "<<",
)  # fmt: skip
_JSON = json.JSONDecoder()
_VALUE = re.compile(r"(?<=[:\[,])\s*(?=[\"{\[\dtfn-])|(?<=: )(?=\S)|(?<=- )(?=\S)")
_KEY = re.compile(r'"[A-Za-z_]\w*"(?=\s*:)|\b[A-Za-z]\w{0,60}(?=: )')
# Keys that mean something to a reader.
_KEYS = (
    "flow", "time", "IP", "source", "destination", "node_name", "nodeName", "uuid", "verdict", "lost_events", "node_status", "agent_event",
    "l4", "TCP", "UDP", "ICMPv4", "l7", "event_type", "aggregate", "labels", "workloads", "identity", "items", "kind", "metadata", "name",
    "namespace", "annotations", "spec", "status", "ports", "port", "clusterIP", "clusterIPs", "endpoints", "addresses", "subsets", "type",
    "object", "received", "data", "log", "message", "line", "_source", "event", "_raw", "result", "values", "hits", "nodes", "GetNodes",
    "cluster-name", "creationTimestamp", "uid", "podCIDRs", "podCIDR", "ipam", "pool", "pools", "allocated", "cidrs", "taints", "hints",
)  # fmt: skip
TextChange: TypeAlias = Callable[[Random, str], str]
ByteChange: TypeAlias = Callable[[Random, bytes], bytes]


def _span(random: Random, text: str) -> tuple[int, int] | None:
    """Return where a value in text lies: of JSON, or the rest of a line of YAML."""
    places = [match.end() for match in _VALUE.finditer(text)]
    if not places:
        return None
    at = random.choice(places)
    try:
        _, end = _JSON.raw_decode(text, at)
    except (ValueError, RecursionError):
        newline = text.find("\n", at)
        end = newline if newline >= 0 else len(text)
    return at, end


def change_value(random: Random, text: str) -> str:
    """Put something odd in the place of a value."""
    span = _span(random, text)
    return text[: span[0]] + random.choice(ODD_VALUES) + text[span[1] :] if span else text


def swap_values(random: Random, text: str) -> str:
    """Put one value in the place of another."""
    first, second = _span(random, text), _span(random, text)
    return text[: first[0]] + text[second[0] : second[1]] + text[first[1] :] if first and second else text


def wrap_value(random: Random, text: str) -> str:
    """Put a value into a list, an object or a text."""
    span = _span(random, text)
    if not span:
        return text
    value = text[span[0] : span[1]]
    wrapped = random.choice([f"[{value}]", f'{{"x": {value}}}', json.dumps(value), f"[{value}, {value}]"])
    return text[: span[0]] + wrapped + text[span[1] :]


def change_key(random: Random, text: str) -> str:
    """Give a key another name; the field that it had is missing."""
    keys = list(_KEY.finditer(text))
    if not keys:
        return text
    match = random.choice(keys)
    name = random.choice(_KEYS)
    return text[: match.start()] + (f'"{name}"' if match[0].startswith('"') else name) + text[match.end() :]


def add_key(random: Random, text: str) -> str:
    """Add a key at the start of an object, perhaps one that it has already."""
    places = [match.end() for match in re.finditer(r"\{(?=\")", text)]
    if not places:
        return text
    at = random.choice(places)
    return f'{text[:at]}"{random.choice(_KEYS)}": {random.choice(ODD_VALUES)}, {text[at:]}'


TEXT_CHANGES: dict[str, TextChange] = {
    "change value": change_value,
    "swap values": swap_values,
    "wrap value": wrap_value,
    "change key": change_key,
    "add key": add_key,
}


def _cut(random: Random, data: bytes) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _flip(random: Random, data: bytes) -> bytes:
    found = bytearray(data)
    for _ in range(random.choice([1, 1, 4, 30]) if found else 0):
        found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def _piece(random: Random, data: bytes) -> tuple[int, int]:
    first = random.randrange(len(data) + 1)
    return first, min(len(data), first + random.choice([1, 10, 300, 5000]))


def _drop(random: Random, data: bytes) -> bytes:
    first, end = _piece(random, data)
    return data[:first] + data[end:]


def _repeat(random: Random, data: bytes) -> bytes:
    first, end = _piece(random, data)
    return data[:end] + data[first:end] * random.choice([1, 2, 20]) + data[end:]


_JUNK = (
    b"\0", b"\0" * 40, b"\n", b"\r\n", b"\r", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\xc3", b"\x85", b"\xe2\x80\xa8", b'"', b"\\" * 3000,
    b'"' * 3000, b"{", b"}", b"[", b"]", b"[" * 3000, b'{"flow":', b'{"flow":{}}', b'\n{"flow":{}}\n', b"\n---\n", b"\n- ", b"\nitems:\n", b" " * 3000,
    b"x" * 70_000, b"[\n" * 2000, b"\n\n\n", b"PK\x03\x04", b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b",", b"2026-11-24T09:00:00Z stdout P {",
)  # fmt: skip


def _insert(random: Random, data: bytes) -> bytes:
    at = random.randrange(len(data) + 1)
    return data[:at] + random.choice(_JUNK) + data[at:]


def _lines(random: Random, data: bytes) -> bytes:
    lines = data.split(b"\n")
    how = random.randrange(4)
    if how == 0:
        random.shuffle(lines)
    elif how == 1:
        lines += lines[: random.randrange(len(lines) + 1)]
    elif how == 2:
        lines.pop(random.randrange(len(lines)))
    ends = [b"\n", b"\r\n", b"\n\n", b"\r"] if how == 3 else [b"\n"]
    return b"".join(line + random.choice(ends) for line in lines)


def _encode(random: Random, data: bytes) -> bytes:
    text = data.decode(errors="replace")
    return text.encode(random.choice(["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]), errors="replace")


def _pack(random: Random, data: bytes) -> bytes:
    how = random.choice(["gzip", "zstd", "tar", "zip", "zip"])
    if how == "gzip":
        return gzip.compress(data, mtime=0)
    if how == "zstd":
        return zstd.compress(data)
    out = io.BytesIO()
    name = random.choice(["x.jsonl", "a/k8s-west.json", "../x.json", "watch-west-svc.jsonl", "m\xfcnchen.json"])
    if how == "tar":
        with tarfile.open(fileobj=out, mode="w", format=random.choice([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])) as tar:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        return out.getvalue()
    kind = random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    with zipfile.ZipFile(out, "w", kind) as archive:
        for number in range(random.choice([1, 1, 2])):
            archive.writestr(zipfile.ZipInfo(f"{number or ''}{name}", (2026, 1, 1, 0, 0, 0)), data, kind)
    return out.getvalue()


BYTE_CHANGES: dict[str, ByteChange] = {
    "cut off": _cut,
    "flip bits": _flip,
    "drop a piece": _drop,
    "repeat a piece": _repeat,
    "insert junk": _insert,
    "mix lines": _lines,
    "encode": _encode,
    "pack": _pack,
}


def change_text(random: Random, text: str) -> str:
    """Make one change that leaves the text nearly what it was."""
    return TEXT_CHANGES[random.choice(list(TEXT_CHANGES))](random, text)


def change_bytes(random: Random, data: bytes) -> bytes:
    """Make one change to bytes; some are changes to the text that they are."""
    if random.randrange(3) == 0:
        return change_text(random, data.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    return BYTE_CHANGES[random.choice(list(BYTE_CHANGES))](random, data)
