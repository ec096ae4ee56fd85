"""Three things side by side: what a setting promises, what clients and servers saw, what the reports say. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from meshobs.lab.experiments.runner import PhaseRun
from meshobs.lab.traffic import Request
from meshobs.times import SECOND
from meshobs.verdict import Verdict, worst

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ReportAnswer:
    """What one report says of a phase.

    Attributes:
        rows: as its macro gives them.
        lossy: part of the mesh was not seen, so that fewer connections than there were are no mistake.
    """

    verdict: Verdict
    rows: Sequence[Row]
    lossy: bool = False


@dataclass(frozen=True)
class Finding:
    """One line of an experiment's result.

    Attributes:
        who: client cluster, or from which to which.
        clients: what they saw.
        flows: what meshobs measured.
        interval: 95 % of the measured share, empty where there is none.
        agrees: the flows say what the clients saw (no more than that where events were lost; calls that clients gave up
            at a change in mid-traffic may count or not), and the verdict is the expected one.
    """

    experiment: str
    phase: str
    who: str
    promise: str
    clients: str
    flows: str
    interval: str
    verdict: Verdict
    expected: Verdict
    agrees: bool
    reason: str = ""


@dataclass(frozen=True)
class _Line:
    """What one report's rows say of one client or crossing, beside what was seen."""

    who: str
    clients: str
    flows: str
    verdict: Verdict
    agrees: bool
    reason: str
    interval: str = ""


def findings(run: PhaseRun, answers: Mapping[str, ReportAnswer]) -> list[Finding]:
    """Return the lines of one phase: those of its own report, and one for each other report that is not as expected."""
    phase = run.phase
    answer = answers[phase.report]
    expected = phase.expect[phase.report]
    lines = [
        Finding(
            run.experiment,
            phase.name,
            line.who,
            _promise(run, line.who),
            line.clients,
            line.flows,
            line.interval,
            line.verdict,
            expected,
            line.agrees and answer.verdict == expected,
            line.reason,
        )
        for line in _MEASURES.get(phase.report, _verdict_only)(run, answer)
    ]
    for report, wanted in phase.expect.items():
        if report != phase.report:
            other = answers[report]
            reason, agrees = _reason(other.rows, other.verdict), other.verdict == wanted
            lines.append(
                Finding(run.experiment, phase.name, report, "", "", "", "", other.verdict, wanted, agrees, reason)
            )
    return lines


def count_local(requests: Iterable[Request]) -> dict[str, tuple[int, int]]:
    """Return local and remote connections by client cluster, as the clients saw them."""
    counted: Counter[tuple[str, bool]] = Counter(
        (one.client_cluster, one.client_cluster == one.answered_cluster)
        for one in requests
        if one.client_cluster and one.answered_cluster and not one.reused
    )
    return {cluster: (counted[cluster, True], counted[cluster, False]) for cluster in sorted({c for c, _ in counted})}


def _promise(run: PhaseRun, who: str) -> str:
    share = run.phase.share.get(who)
    return run.phase.promise if share is None else f"{share:.0%} local"


def _affinity(run: PhaseRun, answer: ReportAnswer) -> list[_Line]:
    found = []
    for cluster, (local, remote) in count_local(run.requests).items():
        rows = [row for row in answer.rows if row["client_cluster"] == cluster and row["connections"] + row["dropped"]]
        seen = (sum(row["local"] for row in rows), sum(row["remote"] for row in rows))
        more = (seen[0] - local, seen[1] - remote)
        # A call under way at a change may arrive although its client gave it up.
        given_up = sum(one.client_cluster == cluster and bool(one.error) for one in run.requests) if run.changed else 0
        exact = sum(max(one, 0) for one in more) <= given_up and (answer.lossy or min(more) >= 0)
        promised = run.phase.share.get(cluster)
        kept = promised not in (0.0, 1.0) or local == promised * (local + remote)
        verdict = _worst(rows)
        found.append(
            _Line(
                cluster,
                f"{local} : {remote}{_follow_delay(run, cluster)}",
                f"{seen[0]} : {seen[1]}",
                verdict,
                # A promise that clients saw broken is no `ok`, whatever the flows say.
                exact and (kept or answer.verdict is not Verdict.OK),
                _reason(rows, verdict),
                _interval(rows, "ci_low", "ci_high"),
            )
        )
    return found


def _follow_delay(run: PhaseRun, cluster: str) -> str:
    """Return how long after a change in mid-traffic a call was still answered as before."""
    if not run.changed:
        return ""
    own = [one for one in run.requests if one.client_cluster == cluster and one.answered_cluster]
    after = [one for one in own if one.time > run.changed[-1]]
    if not after:
        return ""
    as_now = after[-1].answered_cluster == cluster
    late = [one.time - run.changed[-1] for one in after if (one.answered_cluster == cluster) != as_now]
    return f" (followed after {max(late, default=0) / SECOND:.2f} s)"


def _nat(run: PhaseRun, answer: ReportAnswer) -> list[_Line]:
    found = []
    crossed = [one for one in run.requests if one.client_cluster and one.answered_cluster and not one.reused]
    crossed = [one for one in crossed if one.client_cluster != one.answered_cluster]
    for way in sorted({_way(one) for one in crossed}):
        own = [one for one in crossed if _way(one) == way]
        # Where the server does not say whom it saw, an address is neither kept nor changed.
        known = [one for one in own if one.server_saw]
        kept = sum(one.server_saw.rpartition(":")[0] == one.client_address for one in known)
        changed, unknown = len(known) - kept, len(own) - len(known)
        rows = [
            row for row in answer.rows if (row["source_cluster"], row["destination_cluster"], row["protocol"]) == way
        ]
        seen = (
            sum(row["untranslated"] + row["destination_translated"] for row in rows),
            sum(row["translated"] for row in rows),
        )
        within = seen[0] <= kept + unknown and seen[1] <= changed + unknown
        exact = within and (answer.lossy or sum(seen) == len(own))
        verdict = _worst(rows)
        found.append(
            _Line(
                f"{way[0]} -> {way[1]} {way[2]}",
                f"{kept} kept, {changed} changed{f', {unknown} unknown' if unknown else ''}",
                f"{seen[0]} kept, {seen[1]} changed",
                verdict,
                exact,
                _reason(rows, verdict),
            )
        )
    return found


_WAY = ("source_cluster", "destination_cluster", "protocol")


def _way(one: Request) -> tuple[str, str, str]:
    return one.client_cluster, one.answered_cluster, one.protocol


def _hops(run: PhaseRun, answer: ReportAnswer) -> list[_Line]:
    found = []
    called = [row for row in answer.rows if (row["namespace"], row["service"]) in run.services]
    unknown = sum(row["connections"] for row in called if row["source_cluster"] == "unknown")
    for cluster, (local, remote) in count_local(run.requests).items():
        # A cluster has traffic of its own: probes, Hubble's UI.
        rows = [row for row in called if row["source_cluster"] == cluster]
        seen = (
            sum(row["connections"] for row in rows if row["destination_cluster"] == cluster),
            sum(row["connections"] for row in rows if row["destination_cluster"] != cluster),
        )
        extra = {name: sum(row[name] for row in rows) for name in ("hairpins", "trombones", "avoidable")}
        notes = "".join(f", {count} {name}" for name, count in extra.items() if count)
        missing = (local - seen[0], remote - seen[1])
        # What the report says it cannot tell is no mistake, as where kube-proxy gives callers another port.
        exact = min(missing) >= 0 and (answer.lossy or sum(missing) <= unknown)
        notes += f", {sum(missing)} of an unknown client" if exact and any(missing) and not answer.lossy else ""
        verdict = _worst(rows)
        clients, flows = f"{local} stayed, {remote} crossed", f"{seen[0]} stayed, {seen[1]} crossed{notes}"
        found.append(_Line(cluster, clients, flows, verdict, exact, _reason(rows, verdict)))
    return found


def _coverage(run: PhaseRun, answer: ReportAnswer) -> list[_Line]:
    answered = sum(1 for one in run.requests if one.answered_cluster and not one.reused)
    lost = sum(row["lost"] or 0 for row in answer.rows)
    flows = f"{lost} events lost, {sum(row['gap_seconds'] or 0 for row in answer.rows):.1f} s of gaps"
    reason = _reason(answer.rows, answer.verdict)
    return [_Line("mesh", f"{answered} answered", flows, answer.verdict, agrees=True, reason=reason)]


def _verdict_only(run: PhaseRun, answer: ReportAnswer) -> list[_Line]:  # noqa: ARG001 - as the others
    """Return what a report says that clients see nothing of."""
    return [_Line("mesh", "", "", answer.verdict, agrees=True, reason=_reason(answer.rows, answer.verdict))]


_MEASURES: Mapping[str, Callable[[PhaseRun, ReportAnswer], list[_Line]]] = {
    "affinity": _affinity,
    "nat": _nat,
    "hops": _hops,
    "coverage": _coverage,
}


def _interval(rows: Sequence[Row], low: str, high: str) -> str:
    """Return the interval of the one row there is; several periods have none in common."""
    if len(rows) != 1 or rows[0][low] is None:
        return ""
    return f"{rows[0][low]:.1%}-{rows[0][high]:.1%}"


def _reason(rows: Sequence[Row], verdict: Verdict) -> str:
    """Return the reason of the first row with a verdict."""
    return next((str(row["reason"]) for row in rows if row["verdict"] == verdict.value), "")


def _worst(rows: Iterable[Row]) -> Verdict:
    return worst(Verdict(row["verdict"]) for row in rows)
