-- Arrivals without a departure that an ingress node let in through a door of a service: who called, and which door.
-- A client may call again from the same port within seconds: what was let in belongs to the arrival that is nearest to it.
-- Parameters are names of relations: arrivals without a departure, all arrivals, of `ingresses`, doors, address_owners,
-- pod_addresses.
create or replace macro passed_on(lone_arrivals, arrivals, passages, doors, owners, pods) as table
with
candidates as materialized (
    select
        l.arrival, l.hour, l.ns as arrived, p.ns, p.last_ns, p.protocol, p.client, p.client_port, p.frontend, p.frontend_port,
        p.cluster as ingress_cluster, p.node as ingress_node, greatest(p.ns - l.ns, l.ns - p.last_ns, 0) as apart
    from query_table(lone_arrivals) l
    join query_table(passages) p
        on p.slice = l.slice and p.protocol = l.protocol and p.client_port = l.source_port
        -- DSR keeps the client's address on the way to another node's backend.
        and (p.client = l.source or p.cluster = l.owner_cluster and p.node = l.owner_node and p.client <> l.source)
        and l.ns between p.ns - nearby_ns() and p.last_ns + nearby_ns()
),
others as (
    select c.arrival, c.ns, c.client, c.frontend, c.frontend_port, c.ingress_cluster, c.ingress_node
    from candidates c
    join query_table(arrivals) a
        on a.protocol = c.protocol and a.source_port = c.client_port and a.arrival <> c.arrival
        and (c.client = a.source or c.ingress_cluster = a.owner_cluster and c.ingress_node = a.owner_node)
    where greatest(c.ns - a.ns, a.ns - c.last_ns, 0) < c.apart
)
select
    arrival, client, client_port, frontend, frontend_port, ingress_cluster, ingress_node,
    d.door, d.namespace, d.service, o.cluster as owner_cluster, o.node as owner_node, m.cluster as pod_cluster
from candidates c
anti join others using (arrival, ns, client, frontend, frontend_port, ingress_cluster, ingress_node)
join query_table(doors) d on d.address = c.frontend and d.port = c.frontend_port and d.protocol = c.protocol
left join query_table(owners) o on o.hour = c.hour and o.address = c.client
left join query_table(pods) m on m.hour = c.hour and m.address = c.client
qualify row_number() over (partition by arrival order by abs(ns - arrived), d.door, d.namespace, d.service, client) = 1;

-- Arrivals without a departure that a node sent itself: straight to the pod, to a door of a service, or to the NodePort of
-- another node, under whose address they came in with the source port kept. Parameters are names of relations: arrivals
-- without a departure, of `host_departures`, doors, address_owners.
create or replace macro sent_by_hosts(arrivals, host_calls, doors, owners) as table
select
    l.arrival, h.cluster, h.node, h.source, d.door is null as direct, d.door, d.namespace, d.service, o.cluster as ingress_cluster, o.node as ingress_node
from query_table(arrivals) l
join query_table(host_calls) h
    on h.slice = l.slice and h.protocol = l.protocol and coalesce(h.source_port, 0) = coalesce(l.source_port, 0)
    and l.ns between h.ns - nearby_ns() and h.last_ns + nearby_ns()
left join query_table(doors) d on d.address = h.destination and d.port = h.destination_port and d.protocol = h.protocol
left join query_table(owners) o on o.hour = l.hour and o.address = d.address
where h.source = l.source and h.cluster = l.owner_cluster and h.node = l.owner_node
        and (d.door is not null or h.destination = l.destination and h.destination_port is not distinct from l.destination_port)
    or h.source <> l.source and o.cluster = l.owner_cluster and o.node = l.owner_node and exists (
        from backends b
        where b.namespace = d.namespace and b.service = d.service and b.address = l.destination and b.port = l.destination_port and b.protocol = l.protocol
    )
-- What an ingress node passes on looks like a call of its own: who called its NodePort comes first.
qualify row_number() over (partition by l.arrival order by h.source = l.source, d.door is not null, abs(h.ns - l.ns), h.cluster, h.node, d.door, d.namespace, d.service) = 1;

-- Arrivals under the address of a node whose cluster has a NodePort that leads to where they arrived. Parameters are names
-- of relations: arrivals without a departure, doors.
create or replace macro nodeport_backends(arrivals, doors) as table
select distinct a.arrival
from query_table(arrivals) a
join backends b on b.address = a.destination and b.port = a.destination_port and b.protocol = a.protocol
join (select distinct cluster, namespace, service, protocol from query_table(doors) where door = 'nodeport') d
    on d.cluster = a.owner_cluster and d.namespace = b.namespace and d.service = b.service and d.protocol = b.protocol;
