-- Every attempt with the door it went through: pod (straight to its address), service, nodeport, loadbalancer, ingress
-- (Cilium's Envoy, which picks the backend itself) or unknown.
-- At the backend a call of a service and a call of the pod look alike; only the client's node tells them apart:
--   the socket load balancer, by what a socket aimed at; the packet load balancer, by the ClusterIP in the answers.
-- That a call was direct is proved by the absence of such signs only where they would have been seen.
create or replace macro connections_between(since, until) as table
with
attempts as materialized (from attempts_between(since, until)),
-- Socket calls that the load balancer answered, with the frontend of the client's cluster that they aimed at.
calls as materialized (
    select row_number() over (order by s.ns, s.cluster, s.node, s.uuid) as call, s.*, f.door, f.namespace, f.service, if(any_address(s.aim), null, f.cluster) as door_cluster
    from socket_calls(read_from(since), read_to(until)) s
    left join callable_frontends f
        on f.client_cluster = s.cluster and f.port = s.aim_port and f.protocol = s.protocol
        -- By IPv6 another node's NodePort shows as that of any address, so that the cluster of the node is not known.
        and (f.address = s.aim or any_address(s.aim) and f.door = 'nodeport' and f.cluster = s.cluster)
        and f.valid_from <= make_timestamp_ns(s.ns + seconds_ns(2)) and f.valid_end > make_timestamp_ns(s.ns - seconds_ns(2))
    where s.aim is null or s.aim <> s.destination or s.aim_port is distinct from s.destination_port
    qualify row_number() over (partition by s.cluster, s.node, s.uuid order by f.cluster = s.cluster desc, f.door, f.namespace, f.service) = 1
),
-- Attempts and calls of one pod to one backend, on one line of time.
line as materialized (
    select attempt as id, true as is_attempt, client_ns as ns, row(client_address, server_address, coalesce(server_port, 0), protocol) as key
    from attempts
    where packet_door is null and client_kind = 'pod'
    union all
    select call, false, ns, row(source, destination, coalesce(destination_port, 0), protocol) from calls
),
called as materialized (from paired_calls('line')),
-- The first packet of a pod, before the packet load balancer.
sent as materialized (
    select s.*, f.door, f.namespace, f.service
    from sends(read_from(since), read_to(until)) s
    left join callable_frontends f
        on f.client_cluster = s.cluster and f.address = s.destination and f.port = s.destination_port and f.protocol = s.protocol
    qualify row_number() over (partition by s.cluster, s.node, s.protocol, s.source, s.source_port, s.destination, s.destination_port, s.slice order by f.cluster = s.cluster desc, f.door, f.namespace, f.service) = 1
),
sent_by as materialized (
    select
        a.attempt,
        bool_or(s.destination = a.server_address and s.destination_port is not distinct from a.server_port) as to_backend,
        max(s.door) as door, max(s.namespace) as namespace, max(s.service) as service, max(if(s.door is null, null, s.destination_port)) as door_port
    from (select *, unnest(slices_around(client_ns)) as slice from attempts) a
    join sent s
        on s.slice = a.slice and s.protocol = a.protocol and s.source = a.client_address and coalesce(s.source_port, 0) = coalesce(a.client_port, 0)
        and a.client_ns between s.ns - seconds_ns(2) and s.last_ns + seconds_ns(2)
    where s.door is not null or s.destination = a.server_address
    group by a.attempt
),
answered as materialized (
    select a.attempt, max(r.service_address) as service_address
    from (select *, unnest(slices_around(client_ns)) as slice from attempts) a
    join answers(read_from(since), read_to(until)) r
        on r.slice = a.slice and r.protocol = a.protocol and r.source = a.client_address and r.destination = a.server_address
        and coalesce(r.source_port, 0) = coalesce(a.client_port, 0) and coalesce(r.destination_port, 0) = coalesce(a.server_port, 0)
        and a.client_ns between r.ns - nearby_ns() and r.last_ns + seconds_ns(1)
    group by a.attempt
),
-- Pods whose packets are load balanced: without a ClusterIP in the answer their call was direct.
packet_balanced as materialized (
    select distinct a.client_address from answered r join attempts a using (attempt) where r.service_address is not null
),
addresses as materialized (
    select cluster, address, any_value(namespace) as namespace, any_value(service) as service
    from frontends where door = 'service'
    group by all
    having count(distinct (namespace, service)) = 1
),
-- Nodes on which a missing sign means something: their sockets are traced, and nothing was lost.
telling as materialized (
    select s.cluster, s.node, coalesce(bool_and(v.old), false) as old
    from (select distinct cluster, node from flows where is_socket_event(event_type) and socket_cookie is not null and event_subtype > 0 and time >= read_from(since) and time < read_to(until)) s
    anti join losses_between(read_from(since), read_to(until)) l on l.cluster = s.cluster and l.node = s.node
    anti join gaps_between(since, until) g on g.cluster = s.cluster and g.node = s.node
    left join (
        select cluster, node, try_cast(string_split(version, '.')[1] as usmallint)::int * 100 + try_cast(string_split(version, '.')[2] as usmallint) < 118 as old from node_versions
    ) v on v.cluster = s.cluster and v.node = s.node
    -- Where only some flows were asked for, a missing one says nothing.
    where not exists (from collections where asked <> '' and first_flow < until and last_flow >= since)
    group by s.cluster, s.node
)
select
    a.* exclude (packet_door, door_namespace, door_service, translation, translated_by),
    case
        when a.packet_door is not null then a.packet_door
        when a.client_kind = 'ingress' then 'ingress'
        -- Services carry ports: a ping is for the address it names.
        when a.protocol = 'ICMP' and a.client_kind = 'pod' then 'pod'
        when c.call is not null and c.door is not null then c.door
        when c.call is not null then 'service'
        when r.service_address is not null then 'service'
        when s.door is not null then s.door
        when a.client_kind = 'pod' and p.client_address is not null and r.attempt is not null then 'pod'
        when a.client_kind = 'pod' and t.node is not null and (s.to_backend or t.old) then 'pod'
        else 'unknown'
    end as door,
    coalesce(a.door_namespace, c.namespace, split_part(c.aim_service, '/', 1), d.namespace, s.namespace) as door_namespace,
    coalesce(a.door_service, c.service, split_part(c.aim_service, '/', 2), d.service, s.service) as door_service,
    -- The port that was called of the service, where the door is its own address.
    if(a.packet_door is null and (c.call is null or c.door = 'service'), coalesce(c.aim_port, s.door_port), null) as door_port,
    if(a.translation = 'none' and c.door in ('nodeport', 'loadbalancer'), 'destination', a.translation) as translation,
    if(a.translation = 'none' and c.door in ('nodeport', 'loadbalancer'), c.door, a.translated_by) as translated_by,
    -- The cluster whose NodePort or balancer the socket aimed at; the socket load balancer then answers by itself.
    if(c.door in ('nodeport', 'loadbalancer'), c.door_cluster, null) as aimed_cluster,
    c.uuid as call_uuid, make_timestamp_ns(c.ns) as call_time, c.cluster || '/' || c.node as call_seen_by
from attempts a
left join called m using (attempt)
left join calls c using (call)
left join answered r using (attempt)
left join sent_by s using (attempt)
left join packet_balanced p on p.client_address = a.client_address
left join addresses d on d.cluster = a.client_cluster and d.address = r.service_address
left join telling t on t.cluster = a.client_node_cluster and t.node = a.client_node;

-- The same, for reports: one that asks for it several times puts what it has made once in its place.
create or replace macro connections_asked(since, until) as table from connections_between(since, until);

create or replace view connections as
from connections_between(make_timestamp_ns(0), timestamp_ns '2262-01-01');

-- Those that were between clusters, or came from outside.
create or replace view cross_cluster_connections as
from connections where client_cluster is distinct from server_cluster;

-- One end of a connection for people: namespace/pod where it is known, else the address.
create or replace macro end_name(namespace, pod, address) as
    coalesce(if(pod <> '', concat_ws('/', namespace, pod), null), address);

-- The flows that a connection rests on: what left, what the socket aimed at, what arrived (or was dropped).
create or replace macro flows_behind(connection) as
    list_filter([
        {'role': 'departure', 'uuid': uuid_text(connection.departure_uuid), 'time': connection.departure_time, 'node': connection.departure_seen_by},
        {'role': 'socket', 'uuid': uuid_text(connection.call_uuid), 'time': connection.call_time, 'node': connection.call_seen_by},
        {'role': if(connection.outcome = 'refused', 'drop', 'arrival'), 'uuid': uuid_text(connection.arrival_uuid), 'time': connection.arrival_time, 'node': connection.arrival_seen_by}
    ], lambda flow: flow.uuid is not null);
