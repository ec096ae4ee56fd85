"""Experiments as files: phases with settings, faults, traffic, and what reports must say of them."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from meshobs import catalog
from meshobs.errors import InputError
from meshobs.lab.driver import Capabilities
from meshobs.lab.faults import find_fault
from meshobs.lab.mesh.model import Mesh
from meshobs.lab.traffic import Traffic
from meshobs.verdict import Verdict

_VERDICTS = {verdict.value: verdict for verdict in Verdict}
_FOLDER = Path(__file__).parent
_PHASE = {"name", "promise", "set", "scale", "faults", "traffic", "during", "report", "expect", "share", "needs"}
_TOP = {"question", "source", "report", "workloads", "services", "phases", "needs"}


@dataclass(frozen=True)
class TimedChange:
    """A change in mid-traffic.

    Attributes:
        after: seconds.
        set: what is set from then on, as of a phase; None where that stays as it is.
        scale: as of a phase.
    """

    after: float
    set: Mapping[str, Mapping[str, str]] | None = None
    scale: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class ExperimentPhase:
    """One stretch of an experiment in which one state is in force.

    Attributes:
        promise: what the setting promises, in words.
        set: `[CLUSTER/]SERVICE` -> affinity, global, shared as they are written; what is not named is as at first.
        scale: `[CLUSTER/]WORKLOAD` -> replicas.
        faults: `NAME` or `NAME SCOPE`.
        traffic: what the clients do, side by side.
        during: changes in mid-traffic.
        report: which report answers.
        expect: report -> verdict that it must give of this phase.
        share: client cluster -> share of calls that stay at home by the promise; None where it promises none.
        needs: as of the experiment; where a lab has it not, only this phase is left out.
    """

    name: str
    promise: str
    traffic: Sequence[Traffic]
    report: str
    expect: Mapping[str, Verdict]
    set: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    scale: Mapping[str, int] = field(default_factory=dict)
    faults: Sequence[str] = ()
    during: Sequence[TimedChange] = ()
    share: Mapping[str, float] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Experiment:
    """One question with its phases.

    Attributes:
        source: number in the walkthrough.
        extras: workloads and services that it adds to the mesh, as a table of a mesh description.
        needs: settings of clusters that it needs, as `cilium` or `aggregation`.
    """

    name: str
    question: str
    source: str
    phases: Sequence[ExperimentPhase]
    extras: Mapping[str, Mapping[str, Mapping[str, object]]] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)

    @property
    def has_specs(self) -> bool:
        """Tell whether it adds Services or pods as only real API servers know them, see `Capabilities.specs`."""
        return any(key in one for table in self.extras.values() for one in table.values() for key in ("spec", "drain"))

    def on(self, mesh: Mesh) -> "Experiment":
        """Return it with the phases that are for such a mesh."""
        return replace(self, phases=tuple(one for one in self.phases if not mesh.lacks(one.needs)))


def names() -> list[str]:
    """Return the names of all experiments, in the order in which `all` runs them."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def load(name: str, folder: Path = _FOLDER) -> Experiment:
    """Read an experiment.

    Args:
        name: its own, or the path of a file.
        folder: where those with a name are.

    Raises:
        InputError: there is none, or it has mistakes; all of them are named.
    """
    path = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"there is no experiment {name!r}: one of {', '.join(names())}, or a file *.toml") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the experiment {path}: {error}") from error
    try:
        return _experiment(path.stem, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path}: {type(error).__name__} {error}; see docs/lab.md for the form") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def select_possible(
    experiments: Sequence[Experiment], can: Capabilities, mesh: Mesh
) -> tuple[list[Experiment], list[str]]:
    """Return experiments without the phases that a lab cannot run, and what is left out and why, a line each."""
    fit, left_out = [], []
    for one in experiments:
        if not can.specs and one.has_specs:
            left_out.append(f"{one.name}: no fields of its Services' specs, nor pods that drain, here")
            continue
        lacking = {phase.name: _find_lacks(phase, can, mesh) for phase in one.phases}
        left_out += [f"{one.name}, {name}: {', '.join(words)}" for name, words in lacking.items() if words]
        if phases := tuple(phase for phase in one.phases if not lacking[phase.name]):
            fit.append(replace(one, phases=phases))
    return fit, left_out


def _find_lacks(phase: ExperimentPhase, can: Capabilities, mesh: Mesh) -> list[str]:
    """Return what a phase asks for that a lab cannot do."""
    protocols = {one.protocol for one in phase.traffic} - can.protocols
    faults = {fault.partition(" ")[0] for fault in phase.faults} - can.faults
    return [
        *(f"no {name} here" for name in sorted(protocols)),
        *(f"no fault {name} here" for name in sorted(faults)),
        *(f"needs {lacking}" for lacking in mesh.lacks(phase.needs)),
    ]


def _experiment(name: str, content: Mapping[str, Any]) -> Experiment:
    mistakes = [f"unknown key {key}" for key in content if key not in _TOP]
    phases = []
    for number, one in enumerate(content["phases"], start=1):
        where = one.get("name", f"phase {number}")
        mistakes += [f"{where}: unknown key {key}" for key in one if key not in _PHASE]
        report = one.get("report", content.get("report", "affinity"))
        expect: dict[str, str] = {report: Verdict.OK.value, **one.get("expect", {})}
        mistakes += [f"{where}: there is no report {key}" for key in expect if key not in catalog.names()]
        mistakes += [f"{where}: {value} is no verdict" for value in expect.values() if value not in _VERDICTS]
        for fault in one.get("faults", ()):
            find_fault(fault.partition(" ")[0])
        phases.append(
            ExperimentPhase(
                one["name"],
                one["promise"],
                tuple(_traffic(given) for given in one["traffic"]),
                report,
                {key: _VERDICTS[value] for key, value in expect.items() if value in _VERDICTS},
                one.get("set", {}),
                one.get("scale", {}),
                tuple(one.get("faults", ())),
                tuple(
                    TimedChange(float(given["after"]), given.get("set"), given.get("scale", {}))
                    for given in one.get("during", ())
                ),
                one.get("share", {}),
                one.get("needs", {}),
            )
        )
    if mistakes:
        raise InputError("; ".join(mistakes))
    extras = {key: content[key] for key in ("workloads", "services") if key in content}
    return Experiment(
        name, content["question"], content.get("source", ""), tuple(phases), extras, content.get("needs", {})
    )


def _traffic(given: Mapping[str, Any]) -> Traffic:
    rest = {key: value for key, value in given.items() if key not in ("from", "to")}
    return Traffic(given["from"], given["to"], **rest)
