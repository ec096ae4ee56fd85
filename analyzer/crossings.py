"""What the crossings of a report on hops cost, in a sentence: a verdict only tells whether a setting is kept. Pure."""

from collections.abc import Sequence

from meshobs.analyzer.spec import Row


def summary(rows: Sequence[Row]) -> str:
    """Return how many calls crossed clusters and how many of them needed not; empty without any call.

    A crossing counts as avoidable where the client's cluster is known to have had an active backend, and as one that
    was needed where it is known to have had none, or a pod was called by its own address. Of others nothing is known.

    Args:
        rows: of `report_hops`.
    """
    calls = crossed = avoidable = undecided = unplaced = 0
    for row in rows:
        counts = [int(str(row[name])) for name in ("connections", "crossed", "avoidable", "undecided")]
        # Where the client's cluster is unknown, it is not even known whether they crossed.
        needs_unknown = min(counts[3], counts[1])
        calls, crossed, undecided = calls + counts[0], crossed + counts[1], undecided + needs_unknown
        unplaced += counts[3] - needs_unknown
        # By an unknown door: had it been the service's, it would have been avoidable.
        avoidable += min(counts[2], counts[1] - needs_unknown)
    if not calls:
        return ""
    if not unplaced:
        return _crossed(rows, calls, crossed, avoidable, undecided)
    found = f"none of {calls} calls is known to have crossed"
    if crossed:
        found = _crossed(rows, calls, crossed, avoidable, undecided)
    return f"{found}; of {unplaced} it is not known whether they did"


def _crossed(rows: Sequence[Row], calls: int, crossed: int, avoidable: int, undecided: int) -> str:
    if not crossed:
        return f"none of {calls} calls crossed"
    # Where the setting was local already, it is not what lacks.
    kept_home = any(row["cause"] == "against-setting" for row in rows)
    how = "avoidable" if kept_home else "avoidable with affinity local"
    found = f"{crossed} of {calls} calls crossed"
    if undecided == crossed:
        return f"{found}, whether they needed to is not known"
    if undecided:
        return f"{found}, {avoidable or 'none'} known to be {how}, {undecided} not known"
    return f"{found}, {'all' if avoidable == crossed else avoidable or 'none'} {how}"
