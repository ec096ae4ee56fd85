-- What leaves beside what pods send over the border of their node: to the node's own host, where the agent leads it there
-- itself, and what Envoy sends for clients of Ingresses and Gateways, which is no endpoint everywhere.
create or replace macro other_departures(since, until) as table
select
    time, epoch_ns(time) as ns, uuid, cluster, node, report_protocol(protocol) as protocol, observation_point,
    source, source_port, source_cluster, source_namespace, source_pod,
    destination, destination_port, destination_identity, destination_cluster, destination_namespace, destination_pod
from events_asked(since, until)
where is_trace(event_type) and trace_reason = 'NEW' and is_reply is not true
    and (observation_point = 'TO_HOST' and source_id is not null
        or leaves_node(observation_point) and source_id is null and cilium_ingress(source_identity))
    and may_call(protocol, icmp_type)
    -- An answer's flags.
    and coalesce(tcp_flags & (2 | 16), 2) <> (2 | 16)
    and not cilium_health(source_identity) and not cilium_health(destination_identity);

-- Connections that left their pod's node, numbered. The same packet may show at two points of its way out. `proxies` is
-- the name of a relation (hour, address): whom those call for is not seen, and no cluster may be named.
create or replace macro departures_once(since, until, proxies) as table
select row_number() over (order by ns, cluster, node, uuid) as departure, * replace (coalesce(source_cluster, if(proxied, cluster, null)) as source_cluster)
from (
    select *, hour_of(ns) as hour, (hour_of(ns), source) in (select (hour, address) from query_table(proxies)) as proxied
    from (
        from departures(since, until)
        union all by name
        from other_departures(since, until)
    )
)
anti join unmarked_answers(since, until) using (time, uuid, cluster, node)
window same as (partition by cluster, node, protocol, source, source_port, destination, destination_port order by ns)
qualify coalesce(ns - lag(ns) over same > same_packet_ns() or observation_point = lag(observation_point) over same, true);

-- Departures with what they aimed at: a pod, or a door of a service and the node that it leads in through. The parameters
-- are names of relations: departures_once, doors, address_owners, pod_addresses.
create or replace macro departures_aimed(departures, doors, owners, pods) as table
select
    l.*, bucket(l.ns) as bucket, d.door, o.node as ingress_node, o.cluster as ingress_cluster, coalesce(l.destination_cluster, p.cluster) as pod_cluster,
    d.namespace as door_namespace, d.service as door_service
from query_table(departures) l
left join query_table(doors) d
    on d.address = l.destination and d.port = l.destination_port and d.protocol = l.protocol
    and d.valid_from <= moved(l.time, 2) and d.valid_end > moved(l.time, -2)
left join query_table(owners) o on o.hour = l.hour and o.address = d.address
left join query_table(pods) p on p.hour = l.hour and p.address = l.destination
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
join query_table(owners) o on o.hour = s.hour and o.address = x.source_xlated and o.cluster = s.cluster and o.node = s.node;

-- Attempts that left and were not seen to arrive, wherever they went: most of what goes to no pod and no door leaves the
-- mesh. Parameters are names of relations: departures without an arrival, departures_refused, refusals_owned,
-- departures_masqueraded, departures_received.
--   received: the host of the backend was seen to get it, under the client's own address
--   alone:    something between clusters may have given it another address
create or replace macro attempts_left(departures, refused, dropped, masqueraded, received) as table
select
    'client' as ends, s.time, s.ns, s.ns as client_ns, s.protocol,
    if(s.proxied, 'ingress', 'pod') as client_kind, s.source_cluster as client_cluster, s.source_namespace as client_namespace, s.source_pod as client_pod,
    s.cluster as client_node_cluster, s.node as client_node, s.source as client_address, s.source_port as client_port,
    s.destination as aim_address, s.destination_port as aim_port,
    case when m.departure is not null then 'source' when s.door is not null then 'destination' else 'unknown' end as translation,
    -- What pods send to nodes is masqueraded in a tunnel whatever the settings.
    if(m.departure is not null and s.door is null, 'masquerade', s.door) as translated_by,
    s.door as packet_door, s.door_namespace, s.door_service, s.ingress_cluster,
    null::varchar as seen_address, null::uinteger as seen_port, null::uinteger as seen_identity,
    coalesce(s.pod_cluster, s.ingress_cluster) as server_cluster, null::varchar as server_node,
    s.destination_namespace as server_namespace, s.destination_pod as server_pod,
    s.destination as server_address, s.destination_port as server_port,
    d.drop_reason, d.uuid as arrival_uuid, make_timestamp_ns(d.ns) as arrival_time, d.cluster || '/' || d.node as arrival_seen_by,
    s.uuid as departure_uuid, s.time as departure_time, s.cluster || '/' || s.node as departure_seen_by,
    null::varchar as owner_cluster, s.door is null and r.departure is null as alone, v.departure is not null as received
from query_table(departures) s
left join query_table(refused) r using (departure)
left join query_table(dropped) d using (refusal)
left join query_table(masqueraded) m using (departure)
left join query_table(received) v using (departure);

-- Calls of pods that the load balancer led back to themselves. `calls` is the name of a relation of calls_without_packet.
create or replace macro attempts_to_self(calls) as table
select
    'socket' as ends, time, ns, ns as client_ns, protocol,
    'pod' as client_kind, coalesce(source_cluster, cluster) as client_cluster, source_namespace as client_namespace, source_pod as client_pod,
    cluster as client_node_cluster, node as client_node, source as client_address, null::uinteger as client_port,
    source as aim_address, destination_port as aim_port, 'none' as translation, null::varchar as translated_by,
    null::varchar as packet_door, null::varchar as door_namespace, null::varchar as door_service, null::varchar as ingress_cluster,
    null::varchar as seen_address, null::uinteger as seen_port,
    coalesce(source_cluster, cluster) as server_cluster, node as server_node,
    source_namespace as server_namespace, source_pod as server_pod, source as server_address, destination_port as server_port,
    null::varchar as drop_reason, null::ubigint as arrival_uuid, null::timestamp_ns as arrival_time, null::varchar as arrival_seen_by,
    null::ubigint as departure_uuid, null::timestamp_ns as departure_time, null::varchar as departure_seen_by
from query_table(calls);
