"""Real programs out of Go modules: built once, whole or not at all, and what is missing said in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from support.recordings import TESTS
from support.relay_nodes import wait_until

from meshobs.cli.lab.build import build as command
from meshobs.errors import InputError, MeshobsError
from meshobs.lab.mesh import versions
from meshobs.lab.programs import build, machine, modules
from meshobs.lab.programs.machine import Lack
from meshobs.lab.programs.modules import Module

_MAIN = """package main

import "fmt"

var (
\tversion = "unset"
\tmark    = "unset"
)

const greeting = "original"

func main() { fmt.Println(version, mark, greeting) }
"""
TINY = Module(
    "example.test/tiny/v2",
    "2.0.1",
    {"first": "cmd/other", "tiny": ""},
    {"main.version": "2.0.1 with spaces", "main.mark": "edited-1"},
    data={"files": "data/deep"},
    edits={"cmd/other/main.go": lambda text: text.replace("original", "edited"), "new.go": lambda _: "package main\n"},
    marks={"first": "edited-1"},
)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let go take its modules from a folder that serves TINY, and build into a cache of the test's; return that."""
    if not shutil.which("go"):
        if os.environ.get("CI"):
            pytest.fail("go is missing")
        pytest.skip("go is missing")
    folder = tmp_path / "proxy" / TINY.path / "@v"
    folder.mkdir(parents=True)
    version = f"v{TINY.version}"
    go_mod = f"module {TINY.path}\n\ngo 1.21\n"
    (folder / f"{version}.info").write_text(json.dumps({"Version": version}))
    (folder / f"{version}.mod").write_text(go_mod)
    with zipfile.ZipFile(folder / f"{version}.zip", "w") as made:
        files = {"go.mod": go_mod, "go.sum": "", "main.go": _MAIN, "cmd/other/main.go": _MAIN, "data/deep/a/b.txt": "b"}
        for name, text in files.items():
            made.writestr(f"{TINY.path}@{version}/{name}", text)
    cache = tmp_path / "cache"
    settings = {
        "GOPROXY": (tmp_path / "proxy").as_uri(),
        "GONOSUMDB": "*",
        "GOMODCACHE": str(tmp_path / "modules"),
        "GOTOOLCHAIN": "local",
        "MESHOBS_CACHE": str(cache),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return cache


def built(module: Module, *names: str) -> list[str]:
    """Build programs; return what was said."""
    said: list[str] = []
    build.build([module[name] for name in names], said.append)
    return said


def output(path: Path) -> str:
    return subprocess.run([path], capture_output=True, text=True, check=True, timeout=10).stdout.strip()


def fake_go(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put another `go` first on PATH."""
    folder.mkdir(exist_ok=True)
    (folder / "go").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_built_edited_stamped_with_data(proxy: Path) -> None:
    """Programs carry their own names, their stamps and the edits; the module's data lie beside them, to be written."""
    said = built(TINY, "first", "tiny")

    folder = proxy / "tiny-2.0.1"
    assert output(folder / "first") == "2.0.1 with spaces edited-1 edited"
    assert output(folder / "tiny") == "2.0.1 with spaces edited-1 original"
    assert (folder / "files" / "a" / "b.txt").read_text() == "b"
    assert all(os.access(path, os.W_OK) for path in (folder / "files").rglob("*"))
    assert {path.name for path in folder.iterdir()} == {"first", "tiny", "files", ".lock"}
    assert [line.split(" in ")[0] for line in said] == [
        "building first, tiny of tiny-2.0.1: some minutes, once",
        "built first, tiny of tiny-2.0.1",
    ]


def test_built_once(proxy: Path) -> None:
    """What is there is not built again, and nothing is said of it; go is not even asked."""
    built(TINY, "first")
    before = (proxy / "tiny-2.0.1" / "first").stat()
    os.environ["GOPROXY"] = "off"

    said = built(TINY, "first")

    assert said == []
    assert (proxy / "tiny-2.0.1" / "first").stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    ("name", "again"),
    [("first", True), ("tiny", False)],
)
def test_without_its_mark_it_is_built_again(proxy: Path, name: str, again: bool) -> None:
    """A program that was built without the edit it needs counts as missing; one that needs none is taken as it is."""
    folder = proxy / "tiny-2.0.1"
    folder.mkdir(parents=True)
    (folder / name).write_text("built by hand")

    built(TINY, name)

    assert ((folder / name).read_bytes() != b"built by hand") is again


def test_an_empty_file_is_no_program(proxy: Path) -> None:
    """A file of no bytes, as a full disk leaves it, is no marked program."""
    folder = proxy / "tiny-2.0.1"
    folder.mkdir(parents=True)
    (folder / "first").touch()

    assert not TINY["first"].built


_BUILDER = """
import runpy, sys
sys.path.insert(0, {tests!r})
TINY = runpy.run_path({file!r})["TINY"]
from meshobs.lab.programs import build
build.build([TINY["first"], TINY["tiny"]], lambda text: print(text, flush=True))
"""


def builder() -> "subprocess.Popen[str]":
    code = _BUILDER.format(tests=str(TESTS), file=__file__)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)


def slow_go(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let `go build` wait until the returned file is there; `FILE.waiting` tells that it does."""
    gate = folder / "gate"
    script = f"""case "$*" in *" build "*) touch {gate}.waiting; while [ ! -e {gate} ]; do sleep 0.05; done;; esac
exec {shutil.which("go")} "$@\""""
    fake_go(folder, monkeypatch, script)
    return gate


def test_other_modules_in_the_place_of_some(proxy: Path) -> None:
    """What a module needs and no proxy serves is built from a stub beside it; the module's own line for it is gone."""
    main = """package main

import (
\t"fmt"

\t"example.test/part"
)

func main() { fmt.Println(part.Word) }
"""
    whole = replace(
        TINY,
        edits={"cmd/other/main.go": lambda _: main},
        marks={},
        replaces={"example.test/part": "./stub/part"},
        stubs={
            "stub/part/go.mod": "module example.test/part\n",
            "stub/part/part.go": 'package part\n\nconst Word = "from a stub"\n',
        },
    )

    built(whole, "first")

    assert output(proxy / "tiny-2.0.1" / "first") == "from a stub"
    assert {path.name for path in (proxy / "tiny-2.0.1").iterdir()} == {"first", "files", ".lock"}


def test_replace_lines() -> None:
    """A module's own are repeated, Kubernetes' staged ones by their version, and ours go before them."""
    theirs = (
        "replace a/b => c/d v1.0.0\n\nreplace (\n\tk8s.io/api => ./staging/src/k8s.io/api\n\te/f => g/h v2.0.0\n)\n"
    )
    own = replace(TINY, staging="v0.33.4", replaces={"a/b": "./stub/b"})

    assert build.replace_options(theirs, own) == [
        "a/b => ./stub/b", "k8s.io/api => k8s.io/api v0.33.4", "e/f => g/h v2.0.0",
    ]  # fmt: skip


def test_what_each_version_of_cilium_is_built_with() -> None:
    """Only where a proxy does not serve what its go.mod names; each stub is a module with a file."""
    found = {version: modules.cilium(version) for version in versions.BUILT}

    assert {version: len(one.replaces) for version, one in found.items()} == {
        "1.17.6": 0, "1.18.11": 1, "1.19.6": 0, "1.20.2": 3,
    }  # fmt: skip
    stubs = found["1.20.2"].stubs
    folders = [other.removeprefix("./") for other in found["1.20.2"].replaces.values() if other.startswith("./")]
    assert {f"{folder}/{name}" for folder in folders for name in ("go.mod", "stub.go")} == set(stubs)


def test_two_builders_at_once(proxy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second builder waits for the first and then finds all there: one builds, both end well."""
    gate = slow_go(tmp_path / "bin", monkeypatch)
    first = builder()
    wait_until(gate.with_suffix(".waiting").exists)
    second = builder()
    assert second.stdout
    assert second.stdout.readline() == "another build of tiny-2.0.1 runs: waiting for it\n"

    gate.touch()
    told = [one.communicate(timeout=60)[0] for one in (first, second)]

    assert [first.returncode, second.returncode] == [0, 0]
    assert ["built" in one for one in told] == [True, False]
    assert output(proxy / "tiny-2.0.1" / "first").endswith("edited")


def test_killed_in_mid_build(proxy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill -9 leaves no program, and no lock; the next build clears away the rest."""
    gate = slow_go(tmp_path / "bin", monkeypatch)
    killed = builder()
    wait_until(gate.with_suffix(".waiting").exists)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate(timeout=10)
    folder = proxy / "tiny-2.0.1"
    assert not (folder / "first").exists()
    assert list(folder.glob("build-*"))

    gate.touch()
    built(TINY, "first")

    assert output(folder / "first").endswith("edited")
    assert not list(folder.glob("build-*"))


def test_data_that_a_version_lacks(proxy: Path) -> None:
    """A module without a folder that is wanted of it says so; no half of it stays."""
    with pytest.raises(MeshobsError, match=r"tiny-2\.0\.1 has no folder charts: name another version"):
        built(replace(TINY, data={"chart": "charts"}), "first")

    assert {path.name for path in (proxy / "tiny-2.0.1").iterdir()} == {".lock"}


def test_what_does_not_compile(proxy: Path) -> None:
    """A build that fails tells the compiler's last lines, in one line, and leaves nothing."""
    broken = replace(TINY, edits={"cmd/other/main.go": lambda text: text.replace("greeting)", "nothing)")})

    with pytest.raises(
        MeshobsError, match=r"go cannot build example\.test/tiny/v2 v2\.0\.1: .*undefined: nothing"
    ) as told:
        built(broken, "first")

    assert "\n" not in str(told.value)
    assert {path.name for path in (proxy / "tiny-2.0.1").iterdir()} == {".lock", "files"}


_REFUSED = "go: example.test/tiny/v2@v2.0.1: "
_MISTAKES = {
    "no go": ("exit 127", MeshobsError, "go is not installed"),
    "old go": (
        "echo 'go: go.mod requires go >= 1.25.0 (running go 1.22.3; GOTOOLCHAIN=local)'; exit 1",
        MeshobsError,
        "go 1.22.3 is too old for example.test/tiny/v2 v2.0.1: install 1.25.0 or newer",
    ),
    "full": ("echo 'write /tmp/x: no space left on device'; exit 1", MeshobsError, "the disk is full"),
    "refused": (
        f"echo '{_REFUSED}reading https://proxy.golang.org/x/@v/v2.0.1.info: 403 Forbidden'; exit 1",
        InputError,
        "the Go module proxy does not serve example.test/tiny/v2 v2.0.1: name another version",
    ),
    "part refused": (
        "echo '/x/a.go:15:2: github.com/o/g/v4@v4.6.1-0.1: reading https://x/@v/v4.6.1-0.1.zip: 403 Forbidden'; exit 1",
        InputError,
        "does not serve github.com/o/g/v4 v4.6.1-0.1, which example.test/tiny/v2 v2.0.1 needs",
    ),
    "unknown": (f"echo '{_REFUSED}invalid version: unknown revision v2.0.1'; exit 1", InputError, "does not serve"),
    "no sum": (
        f"echo '{_REFUSED}verifying go.mod: {_REFUSED}reading https://x/sumdb/lookup/x: 404 Not Found'; exit 1",
        InputError,
        "does not serve example.test/tiny/v2 v2.0.1: name",
    ),
    "no proxy": (
        f"echo '{_REFUSED}Get \"https://x/@v/v1.info\": dial tcp: lookup x: no such host'; exit 1",
        MeshobsError,
        "cannot fetch example.test/tiny/v2 v2.0.1 from the Go module proxy",
    ),
    "json": (
        f"""echo '{{'; echo '\t"Error": "{_REFUSED}reading https://x/@v/y: 404 Not Found\\n\\tserver response: no"'; exit 1""",
        InputError,
        "404 Not Found | server response: no",
    ),
}


@pytest.mark.parametrize("case", _MISTAKES)
def test_mistakes_in_one_line(proxy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """What go ends with, as it was seen, becomes one line that says what to do."""
    script, kind, message = _MISTAKES[case]
    fake_go(tmp_path / "bin", monkeypatch, script)

    with pytest.raises(kind) as told:
        built(TINY, "first")

    assert message in str(told.value)
    assert "\n" not in str(told.value)
    assert type(told.value) is kind
    assert not list((proxy / "tiny-2.0.1").glob("build-*"))


@pytest.mark.usefixtures("proxy")
def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that is a file says so."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("MESHOBS_CACHE", str(tmp_path / "file"))

    with pytest.raises(MeshobsError, match="MESHOBS_CACHE names another folder"):
        built(TINY, "first")


def test_an_agent_starts_without_kernel_modules(program: Callable[[str], Path]) -> None:
    """Agents of 1.17 are built to start where /proc/modules is missing; the edit is there and shows in the version."""
    agent = modules.cilium("1.17.6")["cilium-agent"]
    program("cilium-agent-1.17")

    told = subprocess.run([agent.path, "--version"], capture_output=True, text=True, check=True, timeout=60).stdout

    assert agent.built
    assert "1.17.6 meshobs-edited" in told
    assert not modules.cilium("1.19.6").edits


def test_the_edit_of_agents() -> None:
    """A missing list of modules means that none is loaded; any other trouble with it still ends the agent."""
    text = "x\n\tfModules, err := os.Open(loadedModulesFilepath)\n\tif err != nil {\n"

    (edit,) = modules.cilium("1.17.6").edits.values()

    assert edit(text) == (
        "x\n\tfModules, err := os.Open(loadedModulesFilepath)\n"
        "\tif errors.Is(err, os.ErrNotExist) {\n\t\treturn nil, nil // a kernel that cannot load any\n\t}\n"
        "\tif err != nil {\n"
    )


def test_an_agent_that_cannot_be_edited() -> None:
    """A version whose source is another one is refused, not built as if it were edited; one without the file is fine."""
    (edit,) = modules.cilium("1.17.6").edits.values()

    assert edit("") == ""
    assert edit("package modules\n") == "package modules\n"
    with pytest.raises(MeshobsError, match="cannot edit"):
        edit('const list = "/proc/modules"\n')


def test_versions() -> None:
    """A version is three numbers, with or without v; the folder carries it."""
    assert modules.cilium("v1.19.6").title == "cilium-1.19.6"
    assert modules.kubernetes().staging == "v0.33.4"
    with pytest.raises(InputError, match="is no version of Cilium"):
        modules.cilium("latest")


def test_all_that_is_missing_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a bare machine every lack is told, each with its cure, in one go."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "_SBIN", ())
    monkeypatch.setattr(machine, "_LLVM", tmp_path)
    monkeypatch.setattr(machine, "_BTF", tmp_path / "none")
    monkeypatch.setattr(machine, "_MOUNTS", tmp_path / "none")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    found = machine.find_lacks()

    assert {one.what.split(" ")[0] for one in found} == {*machine.TOOLS, "clang", "this", "the", "cgroup"}
    assert Lack("etcd is missing", "apt-get install etcd-server") in found
    assert all(one.cure for one in found)


def test_a_kernel_that_lacks_something() -> None:
    """What a throw-away namespace refuses is named, with the kernel's option; what works is not."""
    if os.geteuid() != 0 or not machine.find_tool("unshare"):
        pytest.skip("needs root")
    works, fails = (
        machine.Feature("one", (), "CONFIG_ONE", "true"),
        machine.Feature("two", (), "CONFIG_TWO", "false"),
    )

    found = machine.find_lacking_features([works, fails])

    assert found == [Lack("the kernel has no two", "a kernel with CONFIG_TWO")]


def test_looking_changes_nothing() -> None:
    """Looking for what is missing leaves devices, namespaces, modules and mounts as they were."""

    def state() -> Sequence[str]:
        places = ("/proc/net/dev", "/proc/modules", "/proc/self/mountinfo")
        texts = [Path(place).read_text() for place in places if Path(place).exists()]
        names = sorted(line.split(":")[0] for line in texts[0].splitlines()[2:])
        return [*names, *texts[1:], *sorted(str(path) for path in Path("/sys/class/net").iterdir())]

    before = state()

    machine.find_lacks()

    assert state() == before


@pytest.mark.parametrize("form", ["table", "json"])
def test_the_command(proxy: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """`lab build` says what goes on on stderr and prints paths on stdout, each there."""
    monkeypatch.setattr(machine, "find_lacks", list)
    monkeypatch.setattr(modules, "cilium", lambda version: replace(TINY, version=version or TINY.version))
    monkeypatch.setattr(modules, "of_netns", lambda version: [replace(TINY, version=version)["first"]])

    result = CliRunner().invoke(command, ["--cilium", "2.0.1", "--format", form])

    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines()[0] == "meshobs: building first of tiny-2.0.1: some minutes, once"
    folder = proxy / "tiny-2.0.1"
    if form == "json":
        assert json.loads(result.stdout) == [
            {"name": "first", "version": "2.0.1", "path": str(folder / "first")},
            {"name": "files", "version": "2.0.1", "path": str(folder / "files")},
        ]
    else:
        assert str(folder / "first") in result.stdout


def test_the_command_where_it_cannot_run(proxy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All lacks are told before anything is built, and nothing is."""
    monkeypatch.setattr(machine, "find_lacks", lambda: [Lack("a is missing", "get a"), Lack("b is", "get b")])

    result = CliRunner().invoke(command, [])

    assert isinstance(result.exception, MeshobsError)
    assert result.stderr == "meshobs: a is missing: get a\nmeshobs: b is: get b\n"
    assert not proxy.exists()
    with pytest.raises(InputError, match="builds nothing"):
        CliRunner().invoke(command, ["--driver", "sim"], catch_exceptions=False)
