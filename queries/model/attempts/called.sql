-- What tells which door of a service an attempt took: only the client's node does. The socket load balancer, by what a socket
-- aimed at; the packet load balancer, by the ClusterIP in the answers; at aggregation none what the pod sent.

-- Socket calls that the load balancer answered, with the frontend of the client's cluster that they aimed at.
create or replace macro calls_aimed(since, until) as table
select row_number() over (order by s.ns, s.cluster, s.node, s.uuid) as call, s.*, f.door, f.namespace, f.service, if(any_address(s.aim), null, f.cluster) as door_cluster
from socket_calls(since, until) s
left join callable_frontends f
    on f.client_cluster = s.cluster and f.port = s.aim_port and f.protocol = s.protocol
    -- By IPv6 another node's NodePort shows as that of any address, so that the cluster of the node is not known.
    and (f.address = s.aim or any_address(s.aim) and f.door = 'nodeport' and f.cluster = s.cluster)
    and f.valid_from <= make_timestamp_ns(s.ns + seconds_ns(2)) and f.valid_end > make_timestamp_ns(s.ns - seconds_ns(2))
where s.aim is null or s.aim <> s.destination or s.aim_port is distinct from s.destination_port
qualify row_number() over (partition by s.cluster, s.node, s.uuid order by f.cluster = s.cluster desc, f.door, f.namespace, f.service) = 1;

-- Attempts and calls of one pod to one backend, on one line of time. Parameters are names of relations: attempts,
-- calls_aimed.
create or replace macro calls_and_attempts(attempts, calls) as table
select attempt as id, true as is_attempt, client_ns as ns, row(client_address, server_address, coalesce(server_port, 0), protocol) as key
from query_table(attempts)
where packet_door is null and client_kind = 'pod'
union all
select call, false, ns, row(source, destination, coalesce(destination_port, 0), protocol) from query_table(calls);

-- The first packet of a pod, before the packet load balancer.
create or replace macro sends_aimed(since, until) as table
select s.*, f.door, f.namespace, f.service
from sends(since, until) s
left join callable_frontends f
    on f.client_cluster = s.cluster and f.address = s.destination and f.port = s.destination_port and f.protocol = s.protocol
qualify row_number() over (partition by s.cluster, s.node, s.protocol, s.source, s.source_port, s.destination, s.destination_port, s.slice order by f.cluster = s.cluster desc, f.door, f.namespace, f.service) = 1;

-- What attempts were sent to. Parameters are names of relations: attempts, sends_aimed.
create or replace macro attempts_sent(attempts, sent) as table
select
    a.attempt,
    bool_or(s.destination = a.server_address and s.destination_port is not distinct from a.server_port) as to_backend,
    max(s.door) as door, max(s.namespace) as namespace, max(s.service) as service, max(if(s.door is null, null, s.destination_port)) as door_port
from (select *, unnest(slices_around(client_ns)) as slice from query_table(attempts)) a
join query_table(sent) s
    on s.slice = a.slice and s.protocol = a.protocol and s.source = a.client_address and coalesce(s.source_port, 0) = coalesce(a.client_port, 0)
    and a.client_ns between s.ns - seconds_ns(2) and s.last_ns + seconds_ns(2)
where s.door is not null or s.destination = a.server_address
group by a.attempt;

-- Attempts whose answers reached the client, with the ClusterIP that was put back. `attempts` is the name of a relation.
create or replace macro attempts_answered(attempts, since, until) as table
select a.attempt, max(r.service_address) as service_address
from (select *, unnest(slices_around(client_ns)) as slice from query_table(attempts)) a
join answers(since, until) r
    on r.slice = a.slice and r.protocol = a.protocol and r.source = a.client_address and r.destination = a.server_address
    and coalesce(r.source_port, 0) = coalesce(a.client_port, 0) and coalesce(r.destination_port, 0) = coalesce(a.server_port, 0)
    and a.client_ns between r.ns - nearby_ns() and r.last_ns + seconds_ns(1)
group by a.attempt;
