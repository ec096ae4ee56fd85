"""Fuzzes what reads files, guided by the code that runs (`make fuzz`): bytes of a file in, no crash out.

    python tests/fuzz/readers.py CORPUS [FLAGS OF LIBFUZZER]

The first byte chooses the file's name, the rest is its content. The seeds are small pieces of the test recordings in every
form that is read. An input that breaks something stays as `crash-*` in the current folder; given alone it runs again.
"""
# ruff: noqa: E402 - the imports behind it are instrumented

import gzip
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

# Installed for `make fuzz` only: checks know nothing of it.
atheris: Any = import_module("atheris")

sys.path.insert(0, str(Path(__file__).parent.parent))

with atheris.instrument_imports(include=["meshobs.collector.recordings", "meshobs.collector.kube"]):
    from support.reading import read

    from meshobs.collector.decode import arrow

from support import mutations
from support.forms import FORMS, LINES, SHAPES, shop_mesh
from support.recordings import TESTS

NAMES = (
    "x.jsonl",
    "k8s-west.json",
    "watch-west-svc.jsonl",
    "relay-west.json",
    "objects.yaml",
    "agent.log",
    "x.bin",
    "x.zip",
    "x.csv",
)
# As long as one input may be: more only makes it slow.
_LONGEST = 2**17
_FOLDER = Path(tempfile.mkdtemp(prefix="meshobs-fuzz-"))


def seeds() -> list[bytes]:
    """Return inputs to start from."""
    found = [b"\0" + form(LINES[:2]).encode() for form in FORMS.values()]
    mesh = shop_mesh()
    for shape in SHAPES.values():
        found += [
            bytes([4 if text.startswith(("a", "i", "k", "-")) else 1]) + text.encode()[:20_000]
            for text in shape("west", mesh.objects["west"]).values()
        ]
    for path in sorted((TESTS / "recordings").glob("*/*.bin.gz"))[:4]:
        with gzip.open(path) as stream:
            found.append(b"\6" + stream.read(3000))
    found += [b"\0" + path.read_bytes()[:5000] for path in sorted((TESTS / "data").glob("*.jsonl"))]
    random = Random(1)
    packed = [mutations.BYTE_CHANGES[how](random, one[1:]) for how in ("pack", "encode") for one in found[::7]]
    return [*found, *(b"\0" + one for one in packed)]


def run(data: bytes) -> None:
    """Read one input as a file; what is read of raw captures is decoded, too."""
    if not data:
        return
    path = _FOLDER / NAMES[data[0] % len(NAMES)]
    path.write_bytes(data[1:])
    try:
        read(_FOLDER)
        if path.suffix == ".bin":
            arrow.decode([data[1:], data[5:]])
    finally:
        path.unlink()


def mutate(data: bytes, longest: int, seed: int) -> bytes:
    """Change an input: half the time as recordings are damaged, else as libFuzzer does."""
    random = Random(seed)
    if random.randrange(2) and len(data) > 1:
        return (data[:1] + mutations.change_bytes(random, data[1:]))[: min(longest, _LONGEST)]
    changed: bytes = atheris.Mutate(data, len(data))
    return changed[:longest]


def main() -> None:
    """Write the seeds into the corpus and fuzz."""
    corpus = Path(sys.argv[1])
    if not corpus.is_file():
        corpus.mkdir(parents=True, exist_ok=True)
        for number, seed in enumerate(seeds()):
            (corpus / f"seed-{number}").write_bytes(seed)
    atheris.Setup([*sys.argv, f"-max_len={_LONGEST}", "-timeout=20", "-rss_limit_mb=3000"], run, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
