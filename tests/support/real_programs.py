"""The real programs that tests run against, built into a cache outside the checkout: `make tools`."""

import hashlib
import sys
from pathlib import Path

from meshobs.lab.programs import build, modules
from meshobs.lab.programs.modules import Module

_GO = Path(__file__).parent.parent / "go"


def _inside(path: str, version: str, name: str, package: str, **others: str) -> Module:
    """Return a module with a program of ours in it, tests/go/NAME/main.go: it may import what is internal there."""
    source = (_GO / name / "main.go").read_text()
    mark = f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:16]}"
    return Module(
        path,
        version,
        {name: package, **others},
        {"main.mark": mark},
        edits={f"{package}/main.go": lambda _: source},
        marks={name: mark},
    )


CILIUM, CILIUM_NEXT, CILIUM_NEWEST = map(modules.cilium, ("1.17.6", "1.19.6", "1.20.2"))
KUBERNETES = modules.kubernetes()
# The versions that real kind was recorded with, and the Helm of the cilium CLI of that time.
KIND = _inside("sigs.k8s.io/kind", "0.29.0", "kindconfig", "pkg/kindconfig", kind="")
HELM = _inside("helm.sh/helm/v3", "3.18.4", "chart", "cmd/chart")

PROGRAMS = {
    # What the driver netns runs, of all.
    **{f"{name}-1.17": CILIUM[name] for name in CILIUM.programs},
    **{f"{name}-1.19": CILIUM_NEXT[name] for name in CILIUM_NEXT.programs},
    **{f"{name}-1.20": CILIUM_NEWEST[name] for name in CILIUM_NEWEST.programs},
    **{name: KUBERNETES[name] for name in KUBERNETES.programs},
    **{name: KIND[name] for name in KIND.programs},
    "chart": HELM["chart"],
    "hubble": CILIUM["hubble"],
}


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    build.build([PROGRAMS[name] for name in sys.argv[1:] or PROGRAMS], _say)
