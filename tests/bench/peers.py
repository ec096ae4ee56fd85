"""What others take for the core of `report nat` on the same flows: who came from which cluster, and under whose address.

    .venv/peers/bin/python tests/bench/peers.py duckdb|polars|chdb FLOWS.parquet

It prints, for each pair of clusters, how many arrivals have a departure within five seconds, and how many of them kept
their address. Nothing is proved by that: no statistics, no doors, no losses, no settings. Each engine is loaded in a process of
its own, from an environment of its own (requirements-peers.lock), which holds what meshobs does not use.
"""

import json
import sys
from importlib import import_module
from typing import Any

ARRIVED = "event_type = 4 and observation_point = 'TO_ENDPOINT' and trace_reason = 'NEW' and destination_id is not null"
LEFT = """
    event_type = 4 and observation_point in ('TO_NETWORK', 'TO_STACK', 'TO_OVERLAY') and trace_reason = 'NEW'
    and source_id is not null
"""
CALLS = "is_reply is distinct from true and protocol = 'TCP'"
KEYS = ("source_port", "destination", "destination_port")
NEARBY_NS = 5_000_000_000
Counts = list[tuple[str, str, int, int]]


def duckdb(path: str) -> Counts:
    """Answer with DuckDB's SQL."""
    import duckdb as engine

    flows = f"from read_parquet('{path}') where {CALLS}"
    return engine.sql(
        f"""
        with came as (select time, uuid, cluster, source, {", ".join(KEYS)} {flows} and {ARRIVED}),
        went as (select time, cluster, source, {", ".join(KEYS)} {flows} and {LEFT}),
        pairs as (
            select
                came.uuid, any_value(came.cluster) as to_cluster,
                arg_min(went.cluster, abs(epoch_ns(came.time) - epoch_ns(went.time))) as from_cluster,
                arg_min(went.source = came.source, abs(epoch_ns(came.time) - epoch_ns(went.time))) as kept
            from came join went using ({", ".join(KEYS)})
            where abs(epoch_ns(came.time) - epoch_ns(went.time)) <= {NEARBY_NS}
            group by came.uuid
        )
        select from_cluster, to_cluster, count(*), count(*) filter (kept) from pairs group by all order by all
        """
    ).fetchall()


def polars(path: str) -> Counts:
    """Answer with polars' lazy frames."""
    import polars as pl

    flows = pl.scan_parquet(path).filter(
        (pl.col("event_type") == 4) & (pl.col("trace_reason") == "NEW") & (pl.col("protocol") == "TCP"),
        pl.col("is_reply").is_null() | ~pl.col("is_reply"),
    )
    came = flows.filter(pl.col("observation_point") == "TO_ENDPOINT", pl.col("destination_id").is_not_null())
    left = pl.col("observation_point").is_in(["TO_NETWORK", "TO_STACK", "TO_OVERLAY"])
    went = flows.filter(left, pl.col("source_id").is_not_null())
    apart = (pl.col("time") - pl.col("time_left")).dt.total_nanoseconds().abs()
    pairs = (
        came.select("time", "uuid", "cluster", "source", *KEYS)
        .join(went.select("time", "cluster", "source", *KEYS), on=KEYS, suffix="_left")
        .with_columns(apart=apart)
        .filter(pl.col("apart") <= NEARBY_NS)
        .group_by("uuid")
        .agg(
            pl.col("cluster").first(),
            pl.col("cluster_left").sort_by("apart").first(),
            (pl.col("source") == pl.col("source_left")).sort_by("apart").first().alias("kept"),
        )
    )
    found = pairs.group_by("cluster_left", "cluster").agg(pl.len().alias("pairs"), pl.col("kept").sum())
    return found.sort("cluster_left", "cluster").collect(engine="streaming").rows()


def chdb(path: str) -> Counts:
    """Answer with ClickHouse's SQL."""
    engine: Any = import_module("chdb")
    flows = f"from file('{path}', Parquet) where not coalesce(is_reply, false) and protocol = 'TCP'"
    apart = "abs(toUnixTimestamp64Nano(came.time) - toUnixTimestamp64Nano(went.time))"
    answer = engine.query(
        f"""
        select from_cluster, to_cluster, toUInt32(count(*)), toUInt32(countIf(kept))
        from (
            select
                came.uuid as call, any(came.cluster) as to_cluster, argMin(went.cluster, {apart}) as from_cluster,
                argMin(went.source = came.source, {apart}) as kept
            from (select time, uuid, cluster, source, {", ".join(KEYS)} {flows} and {ARRIVED}) as came
            join (select time, cluster, source, {", ".join(KEYS)} {flows} and {LEFT}) as went using ({", ".join(KEYS)})
            where {apart} <= {NEARBY_NS}
            group by came.uuid
        )
        group by from_cluster, to_cluster order by from_cluster, to_cluster
        """,
        "JSONCompactEachRow",
    )
    return [tuple(json.loads(line)) for line in str(answer).splitlines()]


if __name__ == "__main__":
    for row in {"duckdb": duckdb, "polars": polars, "chdb": chdb}[sys.argv[1]](sys.argv[2]):
        print(*row)
