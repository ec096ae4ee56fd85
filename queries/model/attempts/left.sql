-- Connections that left their pod's node, numbered. The same packet may show at two points of its way out.
create or replace macro departures_once(since, until) as table
select row_number() over (order by ns, cluster, node, uuid) as departure, *
from departures(read_from(since), read_to(until))
anti join unmarked_answers(read_from(since), read_to(until)) using (time, uuid, cluster, node)
window same as (partition by cluster, node, protocol, source, source_port, destination, destination_port order by ns)
qualify coalesce(ns - lag(ns) over same > same_packet_ns() or observation_point = lag(observation_point) over same, true);

-- Departures with what they aimed at: a pod, or a door of a service. The parameters are names of relations:
-- departures_once, doors_of.
create or replace macro departures_aimed(departures, doors) as table
select
    l.*, bucket(l.ns) as bucket, d.door, d.ingress_node, d.ingress_cluster,
    d.namespace as door_namespace, d.service as door_service
from query_table(departures) l
left join query_table(doors) d
    on d.address = l.destination and d.port = l.destination_port and d.protocol = l.protocol
    and d.valid_from <= moved(l.time, 2) and d.valid_end > moved(l.time, -2)
qualify row_number() over (partition by departure order by d.door, d.namespace, d.service) = 1;

-- Departures that were seen to be masqueraded as they left. The parameters are names of relations: departures, of
-- `masquerades` and address_owners.
create or replace macro departures_masqueraded(departures, masqueraded, owners) as table
select distinct s.departure
from (select *, unnest(slices_around(ns)) as slice from query_table(departures)) s
join query_table(masqueraded) x
    on x.slice = s.slice and x.cluster = s.cluster and x.node = s.node and x.protocol = s.protocol
    and x.source = s.source and x.destination = s.destination
    and coalesce(x.destination_port, 0) = coalesce(s.destination_port, 0)
    and s.ns between x.ns - nearby_ns() and x.last_ns + nearby_ns()
join query_table(owners) o on o.address = x.source_xlated and o.cluster = s.cluster and o.node = s.node;

-- Attempts that left toward a pod or a door and were not seen to arrive: refused, cut off by the end of what was read
-- (after `last_second`), or one-sided. The parameters are names of relations: departures without an arrival,
-- departures_refused, refusals_owned, departures_masqueraded.
create or replace macro attempts_left(departures, refused, drops, masqueraded, last_second) as table
select
    case
        when r.refusal is not null then 'refused'
        when s.ns > last_second then 'cut-off'
        else 'one-sided'
    end as outcome,
    s.time, s.ns, s.ns as client_ns, s.protocol,
    'pod' as client_kind, s.source_cluster as client_cluster, s.source_namespace as client_namespace, s.source_pod as client_pod,
    s.cluster as client_node_cluster, s.node as client_node, s.source as client_address, s.source_port as client_port,
    s.destination as aim_address, s.destination_port as aim_port,
    case when m.departure is not null then 'source' when s.door is not null then 'destination' else 'unknown' end as translation,
    -- What pods send to nodes is masqueraded in a tunnel whatever the settings.
    if(m.departure is not null and s.door is null, 'masquerade', s.door) as translated_by,
    s.door as packet_door, s.door_namespace, s.door_service, s.ingress_cluster,
    null::varchar as seen_address, null::uinteger as seen_port,
    coalesce(s.pod_cluster, s.ingress_cluster) as server_cluster, null::varchar as server_node,
    s.destination_namespace as server_namespace, s.destination_pod as server_pod,
    s.destination as server_address, s.destination_port as server_port,
    d.drop_reason, d.uuid as arrival_uuid, make_timestamp_ns(d.ns) as arrival_time, d.cluster || '/' || d.node as arrival_seen_by,
    s.uuid as departure_uuid, s.time as departure_time, s.cluster || '/' || s.node as departure_seen_by, null::bigint as arrival, s.departure
from query_table(departures) s
left join query_table(refused) r using (departure)
left join query_table(drops) d using (refusal)
left join query_table(masqueraded) m using (departure)
where s.pod_cluster is not null or s.door is not null;
