"""Runs the programs of a lab on kind with its own kubeconfig, and keeps a log of what they did."""

import json
import shlex
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from meshobs import private
from meshobs.errors import MeshobsError
from meshobs.lab import shell
from meshobs.lab.kind import hints
from meshobs.lab.kind.options import Options
from meshobs.lab.shell import Done
from meshobs.times import rfc3339

KUBECONFIG = "kubeconfig"
LOG = "commands.jsonl"
# What kubectl and cilium remember of API servers.
_CACHE = "kube-cache"
# Of an output: the lines of a client with many calls are in the answer, too.
_LOGGED = 20_000


class CommandError(MeshobsError):
    """A command failed.

    Attributes:
        command: its words.
        done: how it ended.
        lines: the last that it said.
    """

    def __init__(self, command: Sequence[str], done: Done) -> None:
        text = f"{done.out}\n{done.err}"
        self.lines = hints.last_lines(text)
        last = hints.headline(self.lines)
        advice = hints.cure(text)
        super().__init__(
            f"`{shlex.join(short(command))}` ended with {done.code}: {last}" + (f"; try: {advice}" if advice else "")
        )
        self.command = command
        self.done = done


class Tools:
    """The programs of one lab.

    Args:
        folder: of the lab; its kubeconfig and the log of commands lie there.
        options: which engine.
    """

    def __init__(self, folder: Path, options: Options) -> None:
        self.folder = folder
        self.options = options
        # The user's own kubeconfig is never touched, nor ~/.kube/cache: kind writes where KUBECONFIG says (trap T12).
        self.environment: Mapping[str, str] = {
            "KUBECONFIG": str(folder / KUBECONFIG),
            "KUBECACHEDIR": str(folder / _CACHE),
            **({"KIND_EXPERIMENTAL_PROVIDER": "podman"} if options.engine == "podman" else {}),
        }

    def run(self, command: Sequence[str], seconds: float, given: str | None = None, *, secret: bool = False) -> Done:
        """Run a command, whatever comes of it.

        Args:
            command: its words.
            seconds: how long it may take.
            given: what it reads.
            secret: its output does not go into the log.
        """
        began = time.time_ns()
        done = shell.call(command, seconds, given, self.environment)
        self._log(command, began, done, secret=secret)
        return done

    def must(self, command: Sequence[str], seconds: float, given: str | None = None, *, secret: bool = False) -> str:
        """Run a command that must succeed; return its output.

        Raises:
            CommandError: it fails.
        """
        done = self.run(command, seconds, given, secret=secret)
        if done.code:
            raise CommandError(command, done)
        return done.out

    def kube(self, command: Sequence[str], given: str | None, seconds: float) -> str:
        """Run kubectl, as `kubectl.Run`."""
        return self.must(command, seconds, given)

    def clear(self) -> None:
        """Remove what running programs has left in the folder, and the folder if that was all."""
        (self.folder / LOG).unlink(missing_ok=True)
        shutil.rmtree(self.folder / _CACHE, ignore_errors=True)
        with suppress(OSError):
            self.folder.rmdir()

    def _log(self, command: Sequence[str], began: int, done: Done, *, secret: bool) -> None:
        line = {
            "time": rfc3339(began),
            "command": shlex.join(short(command)),
            "rc": done.code,
            "seconds": round((time.time_ns() - began) / 1e9, 2),
            "stdout": "(a secret)" if secret else hints.plain(done.out)[-_LOGGED:],
            "stderr": hints.plain(done.err)[-_LOGGED:],
        }
        private.append(self.folder / LOG, f"{json.dumps(line, ensure_ascii=False)}\n".encode())


def short(command: Sequence[str]) -> list[str]:
    """Return a command's words, a script among them cut to its first line."""
    return [word if "\n" not in word else f"{word.strip().splitlines()[0]} ..." for word in command]
