"""The real programs that tests run against, built as Go modules into a cache outside the checkout: `make tools`.

Each is keyed by its version and built once. Nothing is vendored; the Go module proxy is all that is needed.
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("MESHOBS_CACHE") or Path.home() / ".cache" / "meshobs")


@dataclass(frozen=True)
class Program:
    """A main package of a Go module.

    Attributes:
        stamp: variable of the program that carries its version, and what to write there.
        staging: version that `replace MODULE => ./staging/...` lines stand for, as Kubernetes publishes them.
    """

    module: str
    version: str
    package: str
    stamp: str
    staging: str = ""

    @property
    def path(self) -> Path:
        """Return where the program is, or will be."""
        return CACHE / f"{self.module.rsplit('/', 1)[-1]}-{self.version}" / self.package.rsplit("/", 1)[-1]


def _cilium(version: str, package: str) -> Program:
    module = "github.com/cilium/cilium"
    # Cilium writes version, revision and date there.
    return Program(
        module, version, package, f"{module}/pkg/version.ciliumVersion={version} meshobs 2026-01-01T00:00:00Z"
    )


PROGRAMS = {
    "hubble-relay-1.17": _cilium("1.17.6", "hubble-relay"),
    "hubble-relay-1.19": _cilium("1.19.6", "hubble-relay"),
    "hubble": _cilium("1.17.6", "hubble"),
    "kube-apiserver": Program(
        "k8s.io/kubernetes",
        "1.33.4",
        "cmd/kube-apiserver",
        "k8s.io/component-base/version.gitVersion=v1.33.4",
        "v0.33.4",
    ),
}


def build(program: Program) -> None:
    """Build a program if it is not there yet."""
    if program.path.exists():
        return
    folder = program.path.parent / "build"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "go.mod").write_text(
        f"module meshobs.test/tools\ngo 1.24.0\nrequire {program.module} v{program.version}\n"
    )
    _go(folder, "mod", "download", f"{program.module}@v{program.version}")
    source = Path(_go(folder, "list", "-mod=mod", "-m", "-f", "{{.Dir}}", program.module).strip())
    # Replace lines count in the main module only: repeat them.
    theirs = (source / "go.mod").read_text()
    ours = (folder / "go.mod").read_text() + "".join(f"replace {line}\n" for line in _replaced(theirs, program.staging))
    version = re.search(r"^go (\S+)$", theirs, re.MULTILINE)
    (folder / "go.mod").write_text(ours.replace("go 1.24.0", version[0] if version else "go 1.24.0"))
    made = folder / "made"
    flags = f"-s -w -X '{program.stamp}'"
    target = f"{program.module}/{program.package}"
    _go(folder, "build", "-trimpath", "-buildvcs=false", "-mod=mod", "-ldflags", flags, "-o", str(made), target)
    made.rename(program.path)
    shutil.rmtree(folder)


def _replaced(go_mod: str, staging: str) -> list[str]:
    block = re.search(r"^replace \(\n(.*?)^\)", go_mod, re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^replace ([^(].*)$", go_mod, re.MULTILINE) + (block[1].splitlines() if block else [])
    found = []
    for line in (line.strip() for line in lines if "=>" in line):
        module, _, other = line.partition(" => ")
        found.append(f"{module} => {module} {staging}" if other.startswith("./") else line)
    return found


def _go(folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"}
    result = subprocess.run(
        ["go", *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return result.stdout


if __name__ == "__main__":
    for name in sys.argv[1:] or PROGRAMS:
        print(f"{name}: {PROGRAMS[name].path}", flush=True)
        build(PROGRAMS[name])
