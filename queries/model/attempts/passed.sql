-- Arrivals without a departure that an ingress node let in through a door of a service: who called, and which door.
-- Parameters are names of relations: arrivals without a departure, of `ingresses`, doors_of, address_owners, pod_addresses.
create or replace macro passed_on(arrivals, passages, doors, owners, pods) as table
select
    l.arrival, p.client, p.client_port, p.frontend, p.frontend_port, p.cluster as ingress_cluster, p.node as ingress_node,
    d.door, d.namespace, d.service, o.cluster as owner_cluster, o.node as owner_node, c.cluster as pod_cluster
from query_table(arrivals) l
join query_table(passages) p
    on p.slice = l.slice and p.protocol = l.protocol and p.client_port = l.source_port
    and (p.client = l.source and p.cluster = l.cluster and p.node = l.node or p.cluster = l.owner_cluster and p.node = l.owner_node and p.client <> l.source)
    and l.ns between p.ns - nearby_ns() and p.last_ns + nearby_ns()
join query_table(doors) d on d.address = p.frontend and d.port = p.frontend_port and d.protocol = p.protocol
left join query_table(owners) o on o.address = p.client
left join query_table(pods) c on c.address = p.client
qualify row_number() over (partition by l.arrival order by abs(p.ns - l.ns), d.door, d.namespace, d.service, p.client) = 1;

-- Arrivals without a departure that a node sent itself, straight to the pod or to a door of a service. Parameters are
-- names of relations: arrivals without a departure, of `host_departures`, doors_of.
create or replace macro sent_by_hosts(arrivals, host_calls, doors) as table
select
    l.arrival, bool_or(h.destination = l.destination and h.destination_port is not distinct from l.destination_port) as direct, max(d.door) as door,
    max(d.namespace) as namespace, max(d.service) as service, max(d.ingress_cluster) as ingress_cluster, max(d.ingress_node) as ingress_node
from query_table(arrivals) l
join query_table(host_calls) h
    on h.slice = l.slice and h.protocol = l.protocol and h.source = l.source and h.cluster = l.owner_cluster and h.node = l.owner_node
    and coalesce(h.source_port, 0) = coalesce(l.source_port, 0)
    and l.ns between h.ns - nearby_ns() and h.last_ns + nearby_ns()
left join query_table(doors) d on d.address = h.destination and d.port = h.destination_port and d.protocol = h.protocol
where h.destination = l.destination and h.destination_port is not distinct from l.destination_port or d.door is not null
group by l.arrival;
