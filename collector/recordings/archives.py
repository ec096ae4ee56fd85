"""Archives: the files of a zip or tar, each unpacked only if it is wanted, into a folder that goes with its owner.

Names inside an archive are shown and never used as paths.
"""

import lzma
import shutil
import struct
import tarfile
import tempfile
import weakref
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from meshobs.collector.recordings.streams import BROKEN, open_file
from meshobs.errors import InputError

_ZIP = b"PK\x03\x04"
_EMPTY_ZIP = b"PK\x05\x06"
_TAR_AT, _TAR = 257, b"ustar"
# What an archive raises that is damaged, cut off or locked with a password.
_DAMAGED = (
    *BROKEN, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, struct.error,
    NotImplementedError, RuntimeError, OSError, ValueError,
)  # fmt: skip


def is_archive(head: bytes) -> bool:
    """Tell whether bytes, decompressed, are the beginning of an archive."""
    return head.startswith((_ZIP, _EMPTY_ZIP)) or head[_TAR_AT:].startswith(_TAR)


class Unpacked:
    """A folder for files of archives; it is gone when this object is."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="meshobs-"))
        self._count = 0
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)

    def store(self, source: IO[bytes]) -> tuple[Path, str]:
        """Write a file into the folder as far as it can be read; return where, and why not all of it."""
        self._count += 1
        path, problem = self._folder / str(self._count), ""
        with path.open("wb") as target:
            while True:
                try:
                    chunk = source.read(2**20)
                except _DAMAGED as error:
                    problem = f"is damaged or cut off in its archive ({error})"
                    break
                if not chunk:
                    break
                target.write(chunk)
        return path, problem


def members(path: Path, name: str) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield name and content of each file of an archive; a content is readable until the next one is asked for.

    Args:
        path: the archive.
        name: what the user calls it.

    Raises:
        InputError: it is damaged; what came before was whole.
    """
    try:
        with open_file(path) as stream:
            zipped = stream.head().startswith((_ZIP, _EMPTY_ZIP))
        if zipped:
            yield from _zipped(path)
        else:
            with open_file(path) as stream, tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|") as archive:
                for member in archive:
                    if member.isfile() and (content := archive.extractfile(member)):
                        yield member.name, content
    except _DAMAGED as error:
        raise InputError(f"{name} is a damaged archive ({error})") from error


def _zipped(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if not member.filename.endswith("/"):  # is_dir() breaks on an empty name
                with archive.open(member) as content:
                    yield member.filename, content
