"""Files that only their owner may read, at no moment anybody else: tokens and keys."""

import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Make a file, in the place of one that is there.

    Raises:
        OSError: it cannot be written.
    """
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)


def append(path: Path, content: bytes) -> None:
    """Add to a file, or make it.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "ab") as stream:
        stream.write(content)
