-- What Relay getvariable('reader') said of its nodes, and the versions that it told.
insert into relay_nodes by name
select distinct
    make_timestamp_ns(time) as time, getvariable('reader') as reader, cluster_of(node_name) as cluster, node_of(node_name) as node,
    nullif(state, '') as state, nullif(version, '') as version, nullif(address, '') as address,
    nullif(uptime_ns, 0) as uptime_ns, nullif(num_flows, 0) as num_flows, nullif(max_flows, 0) as max_flows, nullif(seen_flows, 0) as seen_flows
from seen_nodes s
where not exists (
    from relay_nodes r
    where r.cluster = cluster_of(s.node_name) and r.node = node_of(s.node_name) and r.reader = getvariable('reader')
        and r.time is not distinct from make_timestamp_ns(s.time)
);

insert into node_versions
select cluster_of(node_name) as cluster, node_of(node_name) as node, version_number(version) as version, make_timestamp_ns(min(time)) as seen_at
from seen_nodes s
where version_number(version) <> ''
    and not exists (
        from node_versions v
        where v.cluster = cluster_of(s.node_name) and v.node = node_of(s.node_name) and v.version = version_number(s.version)
    )
group by all;
