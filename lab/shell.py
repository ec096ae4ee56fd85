"""The only door to other processes."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from meshobs.errors import MeshobsError

_NOT_THERE = 127
_TOO_LONG = 124
# How long a command that must end has for putting things in order.
_GRACE = 10.0


@dataclass(frozen=True)
class Done:
    """How a command ended: 127 where there is no such program, 124 where it did not end in time."""

    code: int
    out: str
    err: str


def detach(command: Sequence[str], log: Path) -> int:
    """Start a process that outlives this one and its terminal; return its number. `ended` tells of it from here.

    Args:
        command: to run.
        log: where its output goes.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, close_fds=True
        )
    # It is not waited for: it shall live on. Python would warn of that at the end.
    process.returncode = 0
    return process.pid


def has_ended(number: int) -> bool:
    """Tell whether a process that this one started has ended."""
    try:
        return os.waitpid(number, os.WNOHANG)[0] != 0
    except ChildProcessError:
        return True


def alive(number: int, mark: str) -> bool:
    """Tell whether a process runs and is the one that was started: its command line carries a mark."""
    try:
        command = Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return _answers(number) and not Path("/proc/self").exists()
    # Between fork and exec, and once it is a zombie, a process has no command line.
    return mark.encode() in command


def end(number: int, mark: str, seconds: float = 5) -> None:
    """End a process that was started with a mark, by force if it does not go within some seconds."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if not alive(number, mark):
            return
        with suppress(ProcessLookupError):
            os.kill(number, sent)
        deadline = time.monotonic() + seconds
        while alive(number, mark) and time.monotonic() < deadline:
            # A child of this very process stays until it is waited for.
            with suppress(ChildProcessError):
                os.waitpid(number, os.WNOHANG)
            time.sleep(0.02)


def _answers(number: int) -> bool:
    try:
        os.kill(number, 0)
    except OSError:
        return False
    return True


def run(command: Sequence[str], seconds: float) -> tuple[int, str]:
    """Run a command to its end; return exit code and output. 127 where there is no such program, 124 where it hangs."""
    done = call(command, seconds)
    return done.code, done.out + done.err


def call(
    command: Sequence[str], seconds: float, given: str | None = None, environment: Mapping[str, str] | None = None
) -> Done:
    """Run a command to its end.

    Args:
        command: to run; it is ended when this process is interrupted.
        seconds: how long it may take; then it is ended, by force if need be.
        given: what it reads from its standard input; None for nothing.
        environment: variables beside this process' own.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError:
        return Done(_NOT_THERE, "", f"{command[0]} is not installed")
    except OSError as error:
        return Done(_NOT_THERE, "", f"{command[0]} cannot be started: {error.strerror}")
    with process:
        try:
            out, err = process.communicate(given, timeout=seconds)
        except subprocess.TimeoutExpired:
            out, err = _end(process)
            return Done(_TOO_LONG, out, f"{err}{' '.join(command)} did not end within {seconds:g} s")
        except BaseException:
            _end(process)
            raise
    return Done(process.returncode, out, err)


def _end(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """End a process, gently first: kind removes what it has half made. Return its last words."""
    process.terminate()
    try:
        return process.communicate(timeout=_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


class Child:
    """A process that this one looks after, and reads if it likes."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.number = process.pid

    @property
    def alive(self) -> bool:
        """Tell whether it runs."""
        return self._process.poll() is None

    def lines(self) -> Iterator[str]:
        """Return the lines it prints, as they come, until it ends."""
        if self._process.stdout:
            with self._process.stdout as stream:
                yield from stream

    def line(self) -> str:
        """Return the next line it prints; empty once it has ended."""
        return self._process.stdout.readline() if self._process.stdout else ""

    def wait(self) -> int:
        """Wait for its end; return its exit code."""
        return self._process.wait()

    def end(self, grace: float = 0.0) -> None:
        """End it, by force after some seconds."""
        if grace and self.alive:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        self._process.kill()
        self._process.wait()


def spawn(command: Sequence[str], log: Path, environment: Mapping[str, str], *, read: bool = False) -> Child:
    """Start a process and go on.

    Args:
        command: to run.
        log: where its output goes.
        environment: all of its variables.
        read: what it prints is read here; its log has errors only.

    Raises:
        MeshobsError: there is no such program.
    """
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if read else output,
                stderr=output,
                text=True,
                encoding="utf-8",
                errors="replace",
                env=dict(environment),
                # Ctrl-C is for whoever looks after it.
                start_new_session=True,
            )
        except OSError as error:
            raise MeshobsError(f"{command[0]} cannot be started: {error.strerror}") from error
    return Child(process)


def last_lines(text: str, lines: int = 6) -> str:
    """Return how a program's output ends, in one line, without what go says of downloads."""
    found = [line.strip() for line in text.splitlines() if not line.startswith("go: downloading")]
    return " | ".join([line for line in found if line][-lines:])
