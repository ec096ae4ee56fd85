"""The real programs of a mesh, built as Go modules by the ordinary `go` client into a cache outside the checkout.

Each is keyed by its version and built once; `build` makes what is missing, one run of `go` for each module. Builders
wait for each other, and a program is renamed into its place once it is whole: whoever sees one may run it.
"""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from meshobs.errors import InputError, MeshobsError
from meshobs.lab import shell
from meshobs.lab.programs.modules import Module, Program, program_name

# A cold build of everything takes 25 minutes on two busy cores; this only ends what hangs.
_BUILD_SECONDS = 7200.0
# Programs that need no library of the machine; nothing of the user's own settings changes what is built.
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}


def build(programs: Sequence[Program], say: Callable[[str], None]) -> None:
    """Build those programs that are not there, and the data of their modules.

    Args:
        programs: of any modules.
        say: takes a line for each module: what begins, how long it took.

    Raises:
        InputError: the module proxy does not know a version.
        MeshobsError: no go, no network, no space, or a build that failed.
    """
    modules = list({one.module.title: one.module for one in programs}.values())
    for module in modules:
        names = [one.name for one in programs if one.module.title == module.title]
        try:
            _build(module, names, say)
        except OSError as error:
            raise MeshobsError(
                f"cannot write what is built of {module.title} to {module.folder}: {error.strerror or error}; "
                "MESHOBS_CACHE names another folder"
            ) from error


def _build(module: Module, names: Sequence[str], say: Callable[[str], None]) -> None:
    def find_missing() -> tuple[list[str], list[str]]:
        programs = [name for name in names if not module[name].built]
        return programs, [name for name in module.data if not (module.folder / name).is_dir()]

    if not any(find_missing()):
        return
    module.folder.mkdir(parents=True, exist_ok=True)
    with _alone(module.folder, lambda: say(f"another build of {module.title} runs: waiting for it")):
        programs, data = find_missing()
        # What a killed builder left: nobody else is here.
        for left in module.folder.glob("build*"):
            shutil.rmtree(left, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(prefix="build-", dir=module.folder))
        try:
            began = time.monotonic()
            if programs:
                say(f"building {', '.join(programs)} of {module.title}: some minutes, once")
            source = _download(module, folder)
            for name in data:
                if not (source / module.data[name]).is_dir():
                    raise MeshobsError(f"{module.title} has no folder {module.data[name]}: name another version")
                _copy(source / module.data[name], folder / name)
                (folder / name).rename(module.folder / name)
            if programs:
                _compile(module, programs, source, folder)
                say(f"built {', '.join(programs)} of {module.title} in {time.monotonic() - began:.0f} s")
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _download(module: Module, folder: Path) -> Path:
    """Let go fetch a module; return where its sources are, which cannot be written."""
    (folder / "go.mod").write_text("module meshobs.lab/programs\n")
    output = _go(module, folder, "mod", "download", "-json", f"{module.path}@v{module.version}")
    return Path(json.loads(output)["Dir"])


def _compile(module: Module, names: Sequence[str], source: Path, folder: Path) -> None:
    theirs = (source / "go.mod").read_text()
    replaced = replace_options(theirs, module)
    for name, text in module.stubs.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    arguments = []
    if module.edits:
        # Go takes no overlay for its own cache of modules, which is immutable. By another way there it does.
        (folder / "source").symlink_to(source)
        replaced.append(f"{module.path} => ./source")
        arguments = ["-overlay", str(_overlay(module, folder))]
    # Replace lines count in the main module only: repeat them.
    (folder / "go.mod").write_text(
        "module meshobs.lab/programs\n"
        + (re.search(r"^go \S+\n", theirs, re.MULTILINE) or [""])[0]
        + f"require {module.path} v{module.version}\n"
        + "".join(f"replace {line}\n" for line in replaced)
    )
    shutil.copyfile(source / "go.sum", folder / "go.sum")
    made = folder / "made"
    made.mkdir()
    flags = " ".join(["-s -w", *(f"-X '{variable}={value}'" for variable, value in module.stamp.items())])
    packages = {name: f"{module.path}/{module.programs[name]}".rstrip("/") for name in names}
    _go(
        module, folder, "build", "-trimpath", "-buildvcs=false", "-mod=mod", *arguments, "-ldflags", flags,
        "-o", f"{made}/", *packages.values(),
    )  # fmt: skip
    for name, package in packages.items():
        (made / program_name(package)).rename(module.folder / name)


def _overlay(module: Module, folder: Path) -> Path:
    """Write edited files and the list of them that `go build -overlay` takes; return the list."""
    replaced = {}
    for number, (name, edit) in enumerate(module.edits.items()):
        original, edited = folder / "source" / name, folder / f"edit{number}.go"
        # A version that has no such file needs no edit of it.
        if text := edit(original.read_text() if original.exists() else ""):
            edited.write_text(text)
            replaced[str(original)] = str(edited)
    path = folder / "overlay.json"
    path.write_text(json.dumps({"Replace": replaced}))
    return path


def replace_options(go_mod: str, own: Module) -> list[str]:
    """Return what follows `replace` in a go.mod: the module's lines, and instead of them those of `own`."""
    block = re.search(r"^replace \(\n(.*?)^\)", go_mod, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^replace ([^(].*)$", go_mod, re.MULTILINE) + (block[1].splitlines() if block else [])
    found = dict(own.replaces)
    for line in (line.strip() for line in lines if "=>" in line):
        module, _, other = line.partition(" => ")
        found.setdefault(module, f"{module} {own.staging}" if other.startswith("./") else other)
    return [f"{module} => {other}" for module, other in found.items()]


def _copy(source: Path, target: Path) -> None:
    """Copy a folder of a module so that it can be written and removed: Go keeps its own read-only."""
    for folder, _, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True)
        for name in names:
            shutil.copyfile(Path(folder) / name, here / name)


@contextmanager
def _alone(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Hold a folder's lock, which ends with the process; call `wait` if another has it."""
    import fcntl  # noqa: PLC0415 - not on Windows, where nothing is built

    with (folder / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            wait()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _go(module: Module, folder: Path, *arguments: str) -> str:
    done = shell.call(("go", "-C", str(folder), *arguments), _BUILD_SECONDS, environment=_ENVIRONMENT)
    if done.code:
        raise _error(module, done.code, done.out + done.err)
    return done.out


def _error(module: Module, code: int, output: str) -> MeshobsError:
    """Return what a failure of go means to the user."""
    if found := re.search(r'^\s*"Error": (".*")', output, re.MULTILINE):
        output = str(json.loads(found[1]))
    what = f"{module.path} v{module.version}"
    if code == 127:  # noqa: PLR2004 - as a shell tells it
        return MeshobsError("go is not installed: it builds the real programs; see https://go.dev/dl")
    if found := re.search(r"requires go >= (\S+) \(running go ([^;)]+)", output):
        return MeshobsError(f"go {found[2]} is too old for {what}: install {found[1].rstrip(';')} or newer")
    if "no space left on device" in output:
        return MeshobsError(
            f"the disk is full: building {what} needs up to 12 GB where `go env GOCACHE GOMODCACHE GOTMPDIR` are, "
            f"and in {module.folder}"
        )
    refused = re.search(r"(\S+)@(v\S+?): (?=reading|verifying|invalid version|unknown revision|not found)", output)
    if refused and re.search(r"40[34] |410 |unknown revision|no matching versions|invalid version|not found:", output):
        which = f"{refused[1]} {refused[2]}"
        needed = "" if which == what else f", which {what} needs"
        return InputError(
            f"the Go module proxy does not serve {which}{needed}: name another version ({shell.last_lines(output, 2)})"
        )
    if re.search(r"dial tcp|no such host|resolve host|i/o timeout|TLS handshake|connection refused|50\d ", output):
        return MeshobsError(
            f"cannot fetch {what} from the Go module proxy (go env GOPROXY): {shell.last_lines(output, 1)}"
        )
    return MeshobsError(f"go cannot build {what}: {shell.last_lines(output)}")
