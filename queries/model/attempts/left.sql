-- What leaves beside what pods send over the border of their node: to the node's own host, where the agent leads it there
-- itself, and what Envoy sends for clients of Ingresses and Gateways, which is no endpoint everywhere.
create or replace macro other_departures(since, until) as table
select
    time, epoch_ns(time) as ns, uuid, cluster, node, report_protocol(protocol) as protocol, observation_point,
    source, source_port, source_cluster, source_namespace, source_pod,
    destination, destination_port, destination_identity, destination_cluster, destination_namespace, destination_pod
from flows
where time >= since and time < until
    and is_trace(event_type) and trace_reason = 'NEW' and is_reply is not true
    and (observation_point = 'TO_HOST' and source_id is not null
        or leaves_node(observation_point) and source_id is null and cilium_ingress(source_identity))
    and may_call(protocol, icmp_type)
    -- An answer's flags.
    and coalesce(tcp_flags & (2 | 16), 2) <> (2 | 16)
    and not cilium_health(source_identity) and not cilium_health(destination_identity);

-- Connections that left their pod's node, numbered. The same packet may show at two points of its way out. `proxies` is
-- the name of a relation of proxy_addresses: whom those call for is not seen, and no cluster may be named.
create or replace macro departures_once(since, until, proxies) as table
select row_number() over (order by ns, cluster, node, uuid) as departure, * replace (coalesce(source_cluster, if(proxied, cluster, null)) as source_cluster)
from (
    select *, source in (select address from query_table(proxies)) as proxied
    from (
        from departures(read_from(since), read_to(until))
        union all by name
        from other_departures(read_from(since), read_to(until))
    )
)
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

-- Attempts that left toward a pod, a door or a known backend and were not seen to arrive: refused, sent to a backend that
-- gives no arrival, cut off by the end of what was read (after `last_second`), or one-sided. The parameters are names of
-- relations: departures without an arrival, departures_refused, refusals_owned, departures_masqueraded, departures_unseen.
create or replace macro attempts_left(departures, refused, drops, masqueraded, unseen, last_second) as table
select
    case
        when r.refusal is not null then 'refused'
        when u.received then 'arrived'
        when u.unseen in ('host', 'machine', 'proxy') then 'sent'
        when s.ns > last_second then 'cut-off'
        else 'one-sided'
    end as outcome,
    s.time, s.ns, s.ns as client_ns, s.protocol,
    if(s.proxied, 'ingress', 'pod') as client_kind, s.source_cluster as client_cluster, s.source_namespace as client_namespace, s.source_pod as client_pod,
    s.cluster as client_node_cluster, s.node as client_node, s.source as client_address, s.source_port as client_port,
    s.destination as aim_address, s.destination_port as aim_port,
    case when u.received then 'none' when m.departure is not null then 'source' when s.door is not null then 'destination' else 'unknown' end as translation,
    -- What pods send to nodes is masqueraded in a tunnel whatever the settings.
    if(m.departure is not null and s.door is null and not coalesce(u.received, false), 'masquerade', s.door) as translated_by,
    s.door as packet_door, s.door_namespace, s.door_service, s.ingress_cluster,
    null::varchar as seen_address, null::uinteger as seen_port, null::uinteger as seen_identity,
    if(u.unseen is not null and u.unseen <> 'proxy', u.backend_cluster, coalesce(s.pod_cluster, s.ingress_cluster)) as server_cluster, null::varchar as server_node,
    s.destination_namespace as server_namespace, s.destination_pod as server_pod,
    s.destination as server_address, s.destination_port as server_port,
    d.drop_reason, d.uuid as arrival_uuid, make_timestamp_ns(d.ns) as arrival_time, d.cluster || '/' || d.node as arrival_seen_by,
    s.uuid as departure_uuid, s.time as departure_time, s.cluster || '/' || s.node as departure_seen_by, null::bigint as arrival, s.departure,
    u.unseen
from query_table(departures) s
left join query_table(refused) r using (departure)
left join query_table(drops) d using (refusal)
left join query_table(masqueraded) m using (departure)
left join query_table(unseen) u using (departure)
where s.pod_cluster is not null or s.door is not null or u.unseen is not null;

-- Calls of pods that the load balancer led back to themselves. Of a UDP socket nothing tells whether it sent: one-sided.
-- `calls` is the name of a relation of calls_without_packet.
create or replace macro attempts_to_self(calls) as table
select
    if(protocol = 'TCP', 'arrived', 'one-sided') as outcome, time, ns, ns as client_ns, protocol,
    'pod' as client_kind, coalesce(source_cluster, cluster) as client_cluster, source_namespace as client_namespace, source_pod as client_pod,
    cluster as client_node_cluster, node as client_node, source as client_address, null::uinteger as client_port,
    source as aim_address, destination_port as aim_port, 'none' as translation, null::varchar as translated_by,
    null::varchar as packet_door, null::varchar as door_namespace, null::varchar as door_service, null::varchar as ingress_cluster,
    null::varchar as seen_address, null::uinteger as seen_port,
    coalesce(source_cluster, cluster) as server_cluster, node as server_node,
    source_namespace as server_namespace, source_pod as server_pod, source as server_address, destination_port as server_port,
    null::varchar as drop_reason, null::ubigint as arrival_uuid, null::timestamp_ns as arrival_time, null::varchar as arrival_seen_by,
    null::ubigint as departure_uuid, null::timestamp_ns as departure_time, null::varchar as departure_seen_by, null::bigint as arrival, null::bigint as departure,
    null::varchar as unseen
from query_table(calls);
