-- Attempts that were dropped, numbered; those of the window may be told of until the last SYN was repeated.
create or replace macro refusals_once(since, until) as table
select row_number() over (order by ns, uuid) as refusal, hour_of(ns) as hour, *
from refusals(since, moved(until, (nearby_ns() + syn_repeats_ns() + nearby_ns()) / 1e9));

-- Refusals with the clusters and the node that their addresses belong to. Parameters are names of relations:
-- refusals_once, address_owners, pod_addresses.
create or replace macro refusals_owned(dropped, owners, pods) as table
select
    d.*, o.cluster as owner_cluster, o.node as owner_node,
    coalesce(d.source_cluster, s.cluster) as from_cluster, coalesce(d.destination_cluster, t.cluster) as to_cluster
from query_table(dropped) d
left join query_table(owners) o on o.hour = d.hour and o.address = d.source
left join query_table(pods) s on s.hour = d.hour and s.address = d.source
left join query_table(pods) t on t.hour = d.hour and t.address = d.destination;

-- Which departure was refused by which drop: the nearest of both. Parameters are names of relations: departures without
-- an arrival, refusals_owned.
create or replace macro departures_refused(departures, dropped) as table
select s.departure, d.refusal
from query_table(departures) s
join query_table(dropped) d
    on d.protocol = s.protocol and coalesce(d.source_port, 0) = coalesce(s.source_port, 0) and d.destination = s.destination
    and coalesce(d.destination_port, 0) = coalesce(s.destination_port, 0)
    and (d.source = s.source or d.owner_cluster = s.cluster and d.owner_node = s.node)
where d.ns between s.ns - nearby_ns() and s.ns + nearby_ns() + syn_repeats_ns()
qualify row_number() over (partition by s.departure order by abs(d.ns - s.ns), d.refusal) = 1
    and row_number() over (partition by d.refusal order by abs(d.ns - s.ns), s.departure) = 1;

-- Attempts of which only the drop was seen. Parameters are names of relations: refusals_owned, departures_refused.
create or replace macro attempts_refused(dropped, refused) as table
select
    'drop' as ends, make_timestamp_ns(d.ns) as time, d.ns, d.ns as client_ns, d.protocol,
    case when d.owner_node is not null then 'unknown' when d.from_cluster is not null then 'pod' else 'outside' end as client_kind,
    coalesce(d.owner_cluster, d.from_cluster, '') as client_cluster, d.source_namespace as client_namespace, d.source_pod as client_pod,
    null::varchar as client_node_cluster, null::varchar as client_node, d.source as client_address, d.source_port as client_port,
    d.destination as aim_address, d.destination_port as aim_port, 'none' as translation, null::varchar as translated_by,
    null::varchar as packet_door, null::varchar as door_namespace, null::varchar as door_service, null::varchar as ingress_cluster,
    d.source as seen_address, d.source_port as seen_port, null::uinteger as seen_identity,
    d.to_cluster as server_cluster, d.node as server_node,
    d.destination_namespace as server_namespace, d.destination_pod as server_pod, d.destination as server_address, d.destination_port as server_port,
    d.drop_reason, d.uuid as arrival_uuid, make_timestamp_ns(d.ns) as arrival_time, d.cluster || '/' || d.node as arrival_seen_by,
    null::ubigint as departure_uuid, null::timestamp_ns as departure_time, null::varchar as departure_seen_by,
    d.owner_cluster
from query_table(dropped) d
anti join query_table(refused) r using (refusal);
