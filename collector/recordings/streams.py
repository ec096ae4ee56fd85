"""Byte streams of recordings: plain, gzip or zstd files and standard input, with a look ahead and a count of bytes.

Text comes out as UTF-8 without a mark in front, whatever it was written in.
"""

import codecs
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
# Characters that tell UTF-16 from anything else.
_SAMPLE = 16
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# What readers raise when a compressed file is cut off or damaged.
BROKEN = (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError)


class ByteStream:
    """Bytes that can be looked at before they are read.

    Args:
        raw: the bytes.
        once: they cannot be had a second time.
    """

    def __init__(self, raw: IO[bytes], *, once: bool = False) -> None:
        self._raw = raw
        self.once = once
        self._ahead = b""
        self._kept: list[bytes] | None = None
        self.kept = 0
        self._decoder: codecs.IncrementalDecoder | None = None
        self._spare = b""
        self._started = False

    def head(self, *, whole: bool = False) -> bytes:
        """Return the first bytes without taking them: at least a line, with `whole` all up to about `HEAD`."""
        self._start()
        while len(self._ahead) < HEAD and (whole or b"\n" not in self._ahead):
            chunk = self._take(HEAD)
            if not chunk:
                break
            self._ahead += chunk
        return self._ahead

    def read(self, size: int) -> bytes:
        """Return up to `size` bytes, fewer only at the end."""
        self._start()
        if self._ahead:
            taken, self._ahead = self._ahead[:size], self._ahead[size:]
            if len(taken) < size:
                taken += self._take(size - len(taken))
        else:
            taken = self._take(size)
        if self._kept is not None:
            self._kept.append(taken)
            self.kept += len(taken)
        return taken

    def keep(self) -> None:
        """Keep what is read from now on, until `rewind`; `kept` says how many bytes that are."""
        self._kept, self.kept = [], 0

    def rewind(self) -> None:
        """Put back what was read since `keep`."""
        self._ahead = b"".join([*(self._kept or []), self._ahead])
        self._kept = None

    def _start(self) -> None:
        """Look at the first bytes once: a mark is dropped, UTF-16 becomes UTF-8."""
        if self._started:
            return
        self._started = True
        # One read, which may be short: a live pipe must not be waited for.
        first = self._raw.read1(HEAD) if isinstance(self._raw, io.BufferedReader) else self._raw.read(HEAD)
        encoding = _encoding(first)
        if encoding:
            self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
            first = self._decoder.decode(first).encode(errors="replace")
        self._ahead = first.removeprefix(codecs.BOM_UTF8)

    def _take(self, size: int) -> bytes:
        if self._decoder is None:
            return self._raw.read(size)
        while len(self._spare) < size:
            chunk = self._raw.read(size)
            self._spare += self._decoder.decode(chunk, final=not chunk).encode(errors="replace")
            if not chunk:
                break
        taken, self._spare = self._spare[:size], self._spare[size:]
        return taken


def _encoding(first: bytes) -> str:
    """Return the encoding of text in two bytes a character, empty for everything else."""
    if first.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # Without a mark: every other byte is zero. No capture starts so: its first two bytes are a length's upper half.
    sample = first[: 2 * _SAMPLE]
    if len(sample) == 2 * _SAMPLE and not any(sample[1::2]) and all(sample[::2]):
        return "utf-16-le"
    if len(sample) == 2 * _SAMPLE and not any(sample[::2]) and all(sample[1::2]):
        return "utf-16-be"
    return ""


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
    return ByteStream(_decompress(_Counted(sys.stdin.buffer, None)), once=True)


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
