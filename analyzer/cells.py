"""Values of a report's rows as short texts for people. Pure."""

from collections.abc import Callable

from meshobs.analyzer.spec import Row


def cluster(name: str) -> Callable[[Row], str]:
    """Return a function to the cluster in a row, `(outside)` where it is none."""
    return lambda row: str(row[name]) or "(outside)"


def service(row: Row) -> str:
    """Return the row's service as NAMESPACE/NAME, nothing where it is not known."""
    return f"{row['namespace']}/{row['service']}" if row["service"] else ""


def pair(row: Row) -> str:
    """Return from which cluster to which."""
    return f"{row['source_cluster'] or 'outside'} -> {row['destination_cluster']}"


def share(name: str) -> Callable[[Row], str]:
    """Return a function to a share in per cent, nothing where there is none."""
    return lambda row: _percent(row[name])


def interval(name: str) -> Callable[[Row], str]:
    """Return a function to a share with its 95 % interval."""
    return lambda row: (
        f"{_percent(row[name])} ({_percent(row['ci_low'])}-{_percent(row['ci_high'])})" if row[name] is not None else ""
    )


def clock(text: str) -> str:
    """Return an RFC 3339 time to the second."""
    return f"{text[:10]} {text[11:19]}Z"


def _percent(value: object) -> str:
    return f"{value:.1%}" if isinstance(value, float) else ""
