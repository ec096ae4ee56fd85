"""The record of a lab that is being built: what is done, what was begun, what was made. It outlives a crash."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from meshobs import private
from meshobs.errors import MeshobsError

_FILE = "build.json"


@dataclass
class Build:
    """The record of one lab.

    Attributes:
        path: its file.
        content: the mesh description that it is built from.
        done: keys of actions that succeeded.
        begun: key of the action that is under way, or was when it broke off; empty for none.
        made: names of kind clusters that are this lab's, from the moment before they are made.
    """

    path: Path
    content: Mapping[str, Any]
    done: list[str] = field(default_factory=list)
    begun: str = ""
    made: list[str] = field(default_factory=list)

    def begin(self, key: str) -> None:
        """Note that an action is under way."""
        self.begun = key
        self._write()

    def finish(self) -> None:
        """Note that the action under way succeeded."""
        self.done.append(self.begun)
        self.begin("")

    def make(self, cluster: str) -> None:
        """Note that a cluster is this lab's."""
        if cluster not in self.made:
            self.made.append(cluster)
        self._write()

    def forget(self) -> None:
        """Begin anew."""
        self.done, self.begun, self.made = [], "", []
        self._write()

    def _write(self) -> None:
        record = {key: value for key, value in asdict(self).items() if key != "path"}
        half = self.path.with_suffix(".new")
        private.write(half, json.dumps(record, indent=1).encode())
        half.replace(self.path)


def read(folder: Path) -> Build | None:
    """Return the record in a lab's folder, None if there is none.

    Raises:
        MeshobsError: it is not as it was written.
    """
    path = folder / _FILE
    try:
        return Build(path, **json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        raise MeshobsError(
            f"the record {path} is damaged ({error}): `kind delete cluster` what it made, then remove {folder}"
        ) from error


def new(folder: Path, content: Mapping[str, Any]) -> Build:
    """Begin a record."""
    build = Build(folder / _FILE, json.loads(json.dumps(content)))
    build.begin("")
    return build
