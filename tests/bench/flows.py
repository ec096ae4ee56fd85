"""Many flows from a few: a recording's messages again and again, each round with new uuids and later times."""

import gzip
import random
from collections.abc import Iterator
from pathlib import Path

from meshobs.pb.observer.observer_pb2 import GetFlowsResponse

RECORDING = Path(__file__).parent.parent / "recordings" / "snat" / "west.bin.gz"
# Seconds between two rounds: a little longer than the recording.
ROUND = 25


def messages(count: int) -> Iterator[bytes]:
    """Yield so many GetFlowsResponse messages, each a different flow; sizes and contents are the recording's."""
    base = [_cut(message) for message in _recorded() if GetFlowsResponse.FromString(message).HasField("flow")]
    # As random as Hubble's, since numbers in a row would take less room in the file; the same at every run.
    uuids = _uuids(random.Random(0))
    for turn in range(-(-count // len(base))):
        for message, at, seconds in base[: count - turn * len(base)]:
            uuid = next(uuids)
            # A time appears twice, as a varint of the same length before and after.
            later = _varint(seconds + turn * ROUND)
            yield (message[:at] + uuid + message[at + len(uuid) :]).replace(_varint(seconds), later)


def _uuids(rng: random.Random) -> Iterator[bytes]:
    while True:
        digits = rng.randbytes(16 * 1024).hex()
        for at in range(0, len(digits), 32):
            part = digits[at : at + 32]
            yield f"{part[:8]}-{part[8:12]}-4{part[13:16]}-a{part[17:20]}-{part[20:]}".encode()


def _recorded() -> Iterator[bytes]:
    data = gzip.decompress(RECORDING.read_bytes())
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def _cut(message: bytes) -> tuple[bytes, int, int]:
    parsed = GetFlowsResponse.FromString(message)
    return message, message.index(parsed.flow.uuid.encode()), parsed.flow.time.seconds


def _varint(number: int) -> bytes:
    """Return a number as protobuf writes it."""
    groups = []
    while number > 127:
        groups.append(number & 127 | 128)
        number >>= 7
    return bytes([*groups, number])
