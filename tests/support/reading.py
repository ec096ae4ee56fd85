"""Reads whatever lies in a folder as an import does, without a database: thousands of inputs in the time of one import."""

from dataclasses import dataclass
from pathlib import Path

from meshobs.collector import importer
from meshobs.collector.recordings.objects import ObjectReading, read_relay_nodes
from meshobs.collector.recordings.owners import Owners
from meshobs.collector.recordings.recognise import FileKind
from meshobs.collector.recordings.streams import BROKEN
from meshobs.errors import InputError


@dataclass
class Read:
    """What was read: messages, lines of something else, and reasons why something was not."""

    messages: int = 0
    foreign: int = 0
    broken: int = 0
    states: int = 0
    refused: str = ""


def read(path: Path) -> Read:
    """Read a path to its end; an input that is refused is told of, everything else is a bug."""
    found = Read()
    try:
        recordings = importer.plan([path])
    except InputError as error:
        found.refused = str(error)
        assert found.refused
        assert "\n" not in found.refused
        return found
    for recording in recordings:
        owners = Owners(recording, ["west/west-1", "east/east-1"])
        for source in recording:
            assert source.problem or source.kind not in (FileKind.UNREADABLE, FileKind.LEFT_OUT)
            if source.kind in (FileKind.CAPTURE, FileKind.LINES):
                with source.open() as stream:
                    for batch in source.batches(stream):
                        assert len(batch.items) == len(batch.numbers)
                        found.messages += len(batch.items)
                        found.foreign += batch.foreign
                        found.broken += len(batch.broken)
            elif source.kind in (FileKind.OBJECTS, FileKind.WATCH_LOG, FileKind.RELAY_STATUS):
                owner = owners.owner(source, "")
                reading = ObjectReading(owner.cluster or "west", None)
                try:
                    with source.open() as stream:
                        for _, document, problem in source.documents(stream):
                            found.broken += bool(problem)
                            if source.kind is FileKind.RELAY_STATUS:
                                found.states += len(read_relay_nodes(document, None))
                            else:
                                reading.add(document)
                except BROKEN:
                    found.broken += 1
                found.states += len(reading.sightings())
                reading.notes()
    return found
