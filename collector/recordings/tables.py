"""Tables in CSV, as log stores export them: each row becomes a JSON list of its cells, one of which holds a message."""

import csv
import json
from collections.abc import Iterator
from typing import IO

from meshobs.collector.recordings.framing import LONGEST
from meshobs.collector.recordings.streams import ByteStream


def rows(stream: ByteStream | IO[bytes]) -> Iterator[tuple[int, bytes | str]]:
    """Yield the rows below the head, each with the number of its last line."""
    csv.field_size_limit(LONGEST)  # 128 KiB by default, for the whole process
    reader = csv.reader(_lines(stream))
    try:
        next(reader, None)
        for cells in reader:
            if cells:
                yield reader.line_num, json.dumps(cells).encode(errors="replace")
    except csv.Error as error:
        yield reader.line_num, f"no readable CSV from here on ({error})"


def _lines(stream: ByteStream | IO[bytes]) -> Iterator[str]:
    """Yield lines with their ends, which may lie inside a cell."""
    rest = b""
    while chunk := stream.read(2**20):
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line.decode(errors="replace") + "\n"
        if len(rest) > LONGEST:  # more than a cell may hold: the reader says so
            yield rest.decode(errors="replace")
            rest = b""
    if rest:
        yield rest.decode(errors="replace")
