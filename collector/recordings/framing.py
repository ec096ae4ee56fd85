"""Messages and lines of a stream in bounded batches, each with its number, for one transaction at a time."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from meshobs.collector.recordings.streams import BROKEN, ByteStream

# Long enough that a statement's fixed price does not count, small enough to stay far below the memory goal; eight make
# a row group.
BATCH_ITEMS = 7_680
BATCH_BYTES = 16 * 2**20
# gRPC lets no message above 4 MiB through and a flow is 1 to 3 KB: anything longer is no message and no line of Hubble.
LONGEST = 16 * 2**20
# A message of a raw capture comes after its length in so many bytes.
_LENGTH = 4


@dataclass
class Batch:
    """Items of a source, and what could not be read between them.

    Attributes:
        items: messages, or lines without their end.
        numbers: the position of each item in its source, from 1.
        broken: position and reason of what was passed over.
        foreign: how many lines of something else lay between them.
    """

    items: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    broken: list[tuple[int, str]] = field(default_factory=list)
    foreign: int = 0
    size: int = 0

    def add(self, number: int, item: bytes) -> None:
        """Append one item."""
        self.items.append(item)
        self.numbers.append(number)
        self.size += len(item)

    def full(self) -> bool:
        """Tell whether the batch should be written now."""
        return len(self.items) >= BATCH_ITEMS or self.size >= BATCH_BYTES


def messages(stream: ByteStream) -> Iterator[Batch]:
    """Yield the messages of a raw capture: each a 4-byte big-endian length and that many bytes.

    A length that cannot be one ends the reading: nothing tells where the next message starts.
    """
    return batches(_messages(stream))


def lines(stream: ByteStream) -> Iterator[Batch]:
    """Yield the non-empty lines of a text; a gigantic one is passed over."""
    return batches(numbered_lines(stream))


def batches(found: Iterator[tuple[int, bytes | str | None]]) -> Iterator[Batch]:
    """Collect items into batches: a text is the reason why that one cannot be read, None is something else."""
    batch, number = Batch(), 0
    try:
        for number, item in found:
            if item is None:
                batch.foreign += 1
            elif isinstance(item, str):
                batch.broken.append((number, item))
            else:
                batch.add(number, item)
            if batch.full():
                yield batch
                batch = Batch()
    except BROKEN as error:
        batch.broken.append((number + 1, f"the compressed file is damaged or cut off here ({error})"))
    if batch.items or batch.broken or batch.foreign:
        yield batch


def _messages(stream: ByteStream) -> Iterator[tuple[int, bytes | str]]:
    number = 0
    while header := stream.read(_LENGTH):
        number += 1
        length = int.from_bytes(header, "big")
        if len(header) == _LENGTH and length > LONGEST:
            yield number, f"its length of {length} bytes cannot be right; the rest of the capture is not readable"
            return
        message = stream.read(length)
        if len(header) < _LENGTH or len(message) < length:
            yield number, "the capture ends in the middle of it"
            return
        yield number, message


def numbered_lines(stream: ByteStream) -> Iterator[tuple[int, bytes | str]]:
    """Yield the non-empty lines of a text with their numbers; for a gigantic one the reason why it is left out."""
    number, rest, skipping = 1, b"", False
    while chunk := stream.read(2**20):
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            if skipping:
                skipping = False
            elif line.strip():
                yield number, line
            number += 1
        if len(rest) > LONGEST:
            if not skipping:
                yield number, f"the line is longer than {LONGEST} bytes"
            rest, skipping = b"", True
    if rest.strip() and not skipping:
        yield number, rest
