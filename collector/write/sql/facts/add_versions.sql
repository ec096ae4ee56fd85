-- The versions that nodes were said to run.
insert into node_versions
with told as (
    select unnest(from_json_strict($rows, '[{"time": "bigint", "cluster": "varchar", "node": "varchar", "version": "varchar"}]'), recursive := true)
)
select cluster, node, regexp_extract(version, '\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?') as number, make_timestamp_ns(min(time)) as seen_at
from told t
where number <> ''
    and not exists (from node_versions v where v.cluster = t.cluster and v.node = t.node and v.version = number)
group by all;
