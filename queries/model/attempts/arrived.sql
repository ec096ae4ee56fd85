-- Connections that reached a pod, numbered. A proxied one shows twice, on its way to the proxy and from the proxy to the
-- pod; the latter is kept. What reaches Envoy itself goes on from there. `proxies` is the name of a relation (hour, address).
create or replace macro arrivals_once(since, until, proxies) as table
with
every_arrival as materialized (
    select row_number() over (order by ns, cluster, node, uuid) as arrival, hour_of(ns) as hour, *
    from arrivals(since, until)
    anti join unmarked_answers(since, until) using (time, uuid, cluster, node)
),
shown_twice as materialized (
    select distinct p.arrival
    from (select *, unnest(buckets_around(ns)) as near from every_arrival where observation_point = 'TO_PROXY') p
    join every_arrival e
        on bucket(e.ns) = p.near and e.cluster = p.cluster and e.node = p.node and e.protocol = p.protocol
        and e.source = p.source and e.destination = p.destination
        and coalesce(e.destination_port, 0) = coalesce(p.destination_port, 0)
    where e.observation_point = 'TO_ENDPOINT' and abs(e.ns - p.ns) < nearby_ns()
)
from every_arrival
anti join shown_twice using (arrival)
anti join query_table(proxies) p on p.hour = every_arrival.hour and p.address = destination;

-- Arrivals with the node whose address they came from, and the cluster whose pod it may be.
--   led_in:  under the address of a node's router but from the world: a tunnel's ingress node says so of whoever calls its
--            NodePort, pods and hosts of the mesh included
--   from_node:  by its identity from a node; the labels of an identity that is local to the observing node tell a node
--            from a range of addresses that a policy names
--   led_back: the packet load balancer led a pod back to itself
--   proxied:  called by Envoy, for a client of an Ingress or Gateway
-- The parameters are names of relations: arrivals_once, address_owners, pod_addresses, proxies (hour, address).
create or replace macro arrivals_owned(arrivals, owners, pods, proxies) as table
select
    a.*, bucket(a.ns) as bucket, slice_of(a.ns) as slice,
    o.cluster as owner_cluster, o.node as owner_node, coalesce(a.source_cluster, p.cluster) as pod_cluster,
    coalesce(o.cluster = p.cluster and from_world(a.source_identity), false) as led_in,
    coalesce(remote_node(a.source_identity), false) and r.identity is null as from_node,
    o.node is null and leads_back(a.source, a.source_identity) as led_back,
    x.address is not null as proxied
from query_table(arrivals) a
left join query_table(owners) o on o.hour = a.hour and o.address = a.source
left join query_table(pods) p on p.hour = a.hour and p.address = a.source
left join query_table(proxies) x on x.hour = a.hour and x.address = a.source
left join identities r
    on r.identity = a.source_identity and r.cluster = a.cluster and r.node = a.node
    and not list_contains(r.labels, 'reserved:remote-node') and not list_contains(r.labels, 'reserved:kube-apiserver')
    and len(list_filter(r.labels, lambda label: starts_with(label, 'cidr:') or starts_with(label, 'reserved:world'))) > 0;

-- Attempts that arrived: with the departure they came from where it is known, else with what an ingress node or the
-- client's own node showed of them. Under the address of a node of the server's own cluster nobody can have been
-- masqueraded on the way from another one: who crossed came through that node's NodePort.
--   alone:    nothing but the arrival tells of it, under an address that something between clusters may have given it
-- The parameters are names of relations: arrivals_owned, departures_aimed, and the macros matched_*, passed_on,
-- sent_by_hosts and nodeport_backends.
create or replace macro attempts_arrived(arrivals, departures, matches, passages, host_calls, nodeports) as table
select
    if(w.departure is not null, 'both', 'server') as ends, a.time, a.ns, coalesce(w.ns, a.ns) as client_ns, a.protocol,
    case
        when a.led_back then 'pod'
        when a.proxied or w.proxied then 'ingress'
        when w.departure is not null then 'pod'
        when p.client is not null then case when p.owner_node is not null then 'host' when p.pod_cluster is not null then 'pod' else 'outside' end
        when a.led_in and h.arrival is null then 'unknown'
        when h.arrival is not null or own_host(a.source_identity) or a.owner_node = a.node and a.owner_cluster = a.cluster then 'host'
        when a.owner_node is not null or a.from_node then 'unknown'
        when a.source_id is not null or a.source_pod is not null or a.pod_cluster is not null then 'pod'
        else 'outside'
    end as client_kind,
    case
        when a.led_back then a.cluster
        when w.departure is not null then w.source_cluster
        when p.client is not null then coalesce(p.owner_cluster, p.pod_cluster, '')
        when h.arrival is not null then h.cluster
        when client_kind = 'unknown' and (a.led_in or from_world(a.source_identity) or n.arrival is not null) then 'unknown'
        when a.owner_cluster is not null then a.owner_cluster
        when client_kind = 'unknown' then 'unknown'
        -- Whatever its address.
        when own_host(a.source_identity) then a.cluster
        else coalesce(a.pod_cluster, '')
    end as client_cluster,
    coalesce(if(a.led_back, a.destination_namespace, null), w.source_namespace, a.source_namespace) as client_namespace,
    coalesce(if(a.led_back, a.destination_pod, null), w.source_pod, a.source_pod) as client_pod,
    coalesce(w.cluster, h.cluster, if(client_kind = 'host', a.owner_cluster, null), if(a.source_id is not null or a.led_back, a.cluster, null)) as client_node_cluster,
    coalesce(w.node, h.node, if(client_kind = 'host', a.owner_node, null), if(a.source_id is not null or a.led_back, a.node, null)) as client_node,
    coalesce(if(a.led_back, a.destination, null), w.source, p.client, h.source, a.source) as client_address,
    coalesce(w.source_port, p.client_port, a.source_port) as client_port,
    coalesce(w.destination, p.frontend, a.destination) as aim_address,
    coalesce(w.destination_port, p.frontend_port, a.destination_port) as aim_port,
    case
        when m.way = 'masquerade' then 'source'
        when m.way = 'door' then if(a.source = w.source, 'destination', 'source')
        when m.way = 'same-tuple' then 'none'
        when p.client is not null then if(a.source = p.client, 'destination', 'source')
        when h.arrival is not null then case when h.direct then 'none' when h.source = a.source then 'destination' else 'source' end
        when a.led_in or n.arrival is not null and client_cluster = 'unknown' and a.owner_cluster = a.cluster then 'source'
        when client_kind = 'unknown' then 'unknown'
        else 'none'
    end as translation,
    case
        when m.way = 'masquerade' then 'masquerade'
        when m.way = 'door' then w.door
        when p.client is not null then p.door
        when h.arrival is not null and not h.direct then h.door
        when client_cluster = 'unknown' and a.owner_cluster = a.cluster then 'nodeport'
        when a.led_in then 'nodeport'
    end as translated_by,
    coalesce(if(m.way = 'door', w.door, null), p.door, if(not h.direct, h.door, null), if(a.led_in, 'nodeport', null), if(a.led_back, 'service', null)) as packet_door,
    coalesce(if(m.way = 'door', w.door_namespace, null), p.namespace, if(not h.direct, h.namespace, null)) as door_namespace,
    coalesce(if(m.way = 'door', w.door_service, null), p.service, if(not h.direct, h.service, null)) as door_service,
    coalesce(if(m.way = 'door', w.ingress_cluster, null), p.ingress_cluster, if(not h.direct, h.ingress_cluster, null), if(client_cluster = 'unknown', a.owner_cluster, null)) as ingress_cluster,
    a.source as seen_address, a.source_port as seen_port, a.source_identity as seen_identity,
    a.cluster as server_cluster, a.node as server_node, a.destination_namespace as server_namespace, a.destination_pod as server_pod,
    a.destination as server_address, a.destination_port as server_port,
    null::varchar as drop_reason, a.uuid as arrival_uuid, a.time as arrival_time, a.cluster || '/' || a.node as arrival_seen_by,
    w.uuid as departure_uuid, w.time as departure_time, w.cluster || '/' || w.node as departure_seen_by,
    a.owner_cluster,
    w.departure is null and p.arrival is null and h.arrival is null and not a.led_back and a.pod_cluster is null
        and a.source_port >= 1024 and a.destination_port is not null
        and not coalesce(own_host(a.source_identity), false) and (a.owner_node is not null or not a.from_node)
        -- Under an address of the server's own cluster nobody was translated on the way from another one.
        and a.owner_cluster is distinct from a.cluster as alone
from query_table(arrivals) a
left join query_table(matches) m using (arrival)
left join query_table(departures) w on w.departure = m.departure
left join query_table(passages) p using (arrival)
left join query_table(host_calls) h using (arrival)
left join query_table(nodeports) n using (arrival);
