"""Byte streams of recordings: plain, gzip or zstd files and standard input, with a look ahead and a count of bytes."""

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from meshobs.errors import InputError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Progress = Callable[[int], None]

# Enough to tell what a file holds: many messages, or the first line of all but monstrous ones.
HEAD = 64 * 2**10
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# What readers raise when a compressed file is cut off or damaged.
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError)


class ByteStream:
    """Bytes that can be looked at before they are read."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._ahead = b""

    def head(self) -> bytes:
        """Return the first bytes without taking them: at least a line, at most about `HEAD`."""
        while len(self._ahead) < HEAD and b"\n" not in self._ahead:
            chunk = self._raw.read(HEAD)
            if not chunk:
                break
            self._ahead += chunk
        return self._ahead

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, fewer only at the end."""
        if self._ahead:
            taken, self._ahead = self._ahead[:size], self._ahead[size:]
            return taken if len(taken) == size else taken + self._raw.read(size - len(taken))
        return self._raw.read(size)


@contextmanager
def open_file(path: Path, progress: Progress | None = None) -> Iterator[ByteStream]:
    """Open a file; compression is recognised by content.

    Raises:
        InputError: the file cannot be opened.
    """
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield ByteStream(_decompress(_Counted(file, progress)))


def standard_input() -> ByteStream:
    """Return standard input; it can be read once and is never closed."""
    return ByteStream(_decompress(_Counted(sys.stdin.buffer, None)))


class _Counted(io.RawIOBase):
    """Passes bytes through and tells how many."""

    def __init__(self, raw: IO[bytes], progress: Progress | None) -> None:
        self._raw = raw
        self._progress = progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        view = memoryview(cast("bytearray", buffer)).cast("B")
        chunk = self._raw.read(len(view)) or b""
        view[: len(chunk)] = chunk
        if self._progress:
            self._progress(len(chunk))
        return len(chunk)


def _decompress(raw: _Counted) -> IO[bytes]:
    buffered = io.BufferedReader(raw, buffer_size=2**20)
    magic = buffered.peek(4)[:4]
    if magic.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=buffered))
    if magic == _ZSTD:
        return cast("IO[bytes]", zstd.ZstdFile(cast("IO[bytes]", buffered)))
    return cast("IO[bytes]", buffered)
