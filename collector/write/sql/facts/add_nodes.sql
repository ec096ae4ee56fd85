-- What Relay $reader said of its nodes.
insert into relay_nodes by name
with told as (
    select unnest(from_json_strict($rows, '[{
        "time": "bigint", "cluster": "varchar", "node": "varchar", "state": "varchar", "version": "varchar",
        "address": "varchar", "uptime_ns": "ubigint", "num_flows": "ubigint", "max_flows": "ubigint", "seen_flows": "ubigint"
    }]'), recursive := true)
)
select distinct
    make_timestamp_ns(time) as time, $reader as reader, cluster, node,
    nullif(state, '') as state, nullif(version, '') as version, nullif(address, '') as address,
    nullif(uptime_ns, 0) as uptime_ns, nullif(num_flows, 0) as num_flows, nullif(max_flows, 0) as max_flows, nullif(seen_flows, 0) as seen_flows
from told t
where not exists (
    from relay_nodes r
    where r.cluster = t.cluster and r.node = t.node and r.reader = $reader and r.time is not distinct from make_timestamp_ns(t.time)
);
