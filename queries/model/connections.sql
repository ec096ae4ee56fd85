-- Every attempt with what became of it and the door it went through: pod (straight to its address), service, nodeport,
-- loadbalancer, ingress (Cilium's Envoy, which picks the backend itself) or unknown.
--   outcome:     arrived | one-sided (left, never seen to arrive) | refused (dropped) | cut-off (left in the last second of what was read)
--                | sent (left for a backend that gives no arrival)
--   unseen:      why the backend cannot be seen to receive, as in unseen_backends
-- At the backend a call of a service and a call of the pod look alike; only the client's node tells them apart:
--   the socket load balancer, by what a socket aimed at; the packet load balancer, by the ClusterIP in the answers.
-- That a call was direct is proved by the absence of such signs only where they would have been seen.
-- `attempts` is the name of a relation of numbered attempts; it is read several times, wide rows only once.
create or replace macro connections_made(attempts, since, until) as table
with
lone as materialized (
    select attempt, ns, client_ns, ends, alone, protocol, client_node_cluster, client_address, client_port, seen_address, seen_port, owner_cluster, server_cluster, server_address, server_port
    from query_table(attempts)
    where alone and ends in ('server', 'client') and time >= read_from(since) and time < read_to(until)
),
between_clusters as materialized (from translated_between('lone')),
-- Backends that give no arrival.
blind_backends as materialized (from unseen_backends(since, until)),
blind_addresses as materialized (from unseen_addresses('blind_backends')),
left_alone as materialized (
    select attempt, protocol, server_address, server_port, door_namespace, door_service, ingress_cluster
    from attempts_joined(attempts, 'between_clusters', since, until)
    where ends = 'client'
),
unseen as materialized (from attempts_unseen('left_alone', 'blind_backends', 'blind_addresses')),
last_second as materialized (select last_second_ns(since, until) as ns),
-- Pods whose packets are load balanced: without a ClusterIP in the answer their call was direct.
packet_balanced as materialized (
    select distinct client_address from attempts_joined(attempts, 'between_clusters', since, until) where answered_by is not null
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
    from nodes_tracing_sockets(read_from(since), read_to(until)) s
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
    a.attempt, a.outcome, a.time, a.ns, a.client_ns, a.protocol, a.client_kind, a.client_cluster, a.client_namespace, a.client_pod,
    a.client_node_cluster, a.client_node, a.client_address, a.client_port, a.aim_address, a.aim_port, a.ingress_cluster,
    a.seen_address, a.seen_port, a.seen_identity, a.server_cluster, a.server_node, a.server_namespace, a.server_pod, a.server_address, a.server_port,
    a.drop_reason, a.arrival_uuid, a.arrival_time, a.arrival_seen_by, a.departure_uuid, a.departure_time, a.departure_seen_by, a.unseen,
    case
        when a.packet_door is not null then a.packet_door
        when a.client_kind = 'ingress' then 'ingress'
        -- Services carry ports: a ping is for the address it names.
        when a.protocol = 'ICMP' and a.client_kind = 'pod' then 'pod'
        when a.call_uuid is not null then coalesce(a.call_door, 'service')
        when a.answered_by is not null then 'service'
        when a.sent_door is not null then a.sent_door
        when a.client_kind = 'pod' and p.client_address is not null and a.answered then 'pod'
        when a.client_kind = 'pod' and t.node is not null and (a.sent_to_backend or t.old) then 'pod'
        else 'unknown'
    end as door,
    coalesce(a.door_namespace, a.call_namespace, d.namespace, a.sent_namespace) as door_namespace,
    coalesce(a.door_service, a.call_service, d.service, a.sent_service) as door_service,
    -- The port that was called of the service, where the door is its own address.
    if(a.packet_door is null and (a.call_uuid is null or a.call_door = 'service'), coalesce(a.call_port, a.sent_port), null) as door_port,
    if(a.translation = 'none' and a.call_door in ('nodeport', 'loadbalancer'), 'destination', a.translation) as translation,
    if(a.translation = 'none' and a.call_door in ('nodeport', 'loadbalancer'), a.call_door, a.translated_by) as translated_by,
    -- The cluster whose NodePort or balancer the socket aimed at; the socket load balancer then answers by itself.
    if(a.call_door in ('nodeport', 'loadbalancer'), a.call_cluster, null) as aimed_cluster,
    a.call_uuid, a.call_time, a.call_seen_by
-- What lacks an end and was for no pod, no door and no known backend is nobody's call of the mesh.
from (
    select
        a.* replace (
            coalesce(if(u.unseen <> 'proxy', u.backend_cluster, null), if(u.unseen is null or u.unseen = 'proxy', a.server_cluster, null), if(a.ends = 'drop', b.cluster, null)) as server_cluster,
            if(u.unseen is not null and a.received, 'none', a.translation) as translation,
            if(u.unseen is not null and a.received, a.packet_door, a.translated_by) as translated_by
        ),
        u.unseen,
        case
            when a.ends in ('both', 'server') then 'arrived'
            when a.ends = 'socket' then if(a.protocol = 'TCP', 'arrived', 'one-sided') -- a UDP socket that is told of may have sent nothing
            when a.arrival_uuid is not null then 'refused'
            when u.unseen is not null and a.received then 'arrived'
            when u.unseen in ('host', 'machine', 'proxy') then 'sent'
            when a.ns > (select ns from last_second) then 'cut-off'
            else 'one-sided'
        end as outcome
    from attempts_joined(attempts, 'between_clusters', since, until) a
    left join unseen u using (attempt)
    left join blind_addresses b on a.ends = 'drop' and b.address = a.server_address and b.port = a.server_port and b.protocol = a.protocol
    where a.ends in ('both', 'server', 'socket')
        or a.ends = 'client' and (a.server_cluster is not null or a.packet_door is not null or u.unseen is not null)
        or a.ends = 'drop' and coalesce(a.server_cluster, b.cluster) is not null
) a
left join packet_balanced p on p.client_address = a.client_address
left join addresses d on d.cluster = a.client_cluster and d.address = a.answered_by
left join telling t on t.cluster = a.client_node_cluster and t.node = a.client_node;

-- Attempts as they are numbered: by the first flow that tells of each, which tells of no other.
create or replace macro attempts_of(attempts) as table
select coalesce(departure_uuid, arrival_uuid, call_uuid) as attempt, *, epoch_ns(time) as ns, epoch_ns(client_time) as client_ns
from query_table(attempts);

create or replace view attempts_stored as from attempts_of('attempts');

-- The connections of a window some of whose attempts have to be made.
create or replace macro connections_pieced(since, until) as table
with
asked as materialized (from attempts_asked(read_from(since), read_to(until))),
every_attempt as (from attempts_of('asked'))
from connections_made('every_attempt', since, until);

-- The connections of a window: here of what is stored, as while nothing is left to make; as soon as flows come in,
-- connections_pieced stands in its place (sql/read_all.sql).
create or replace macro connections_between(since, until) as table from connections_made('attempts_stored', since, until);

-- The same, for reports: one that asks for it several times puts what it has made once in its place.
create or replace macro connections_asked(since, until) as table from connections_between(since, until);

-- Those whose events are pruned are stored as they were.
create or replace view connections as
from kept_connections
union all by name
from connections_between(make_timestamp_ns(0), timestamp_ns '2262-01-01')
where time >= kept_since('events');

-- Those of a window, taken as reports take one, whose client, server or service is of a namespace, or that called a service.
create or replace macro connections_of(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, only_namespace := null::varchar, only_service := null::varchar
) as table
with every as (
    from kept_connections
    where time >= window_asked(since, whole) and time < window_until(since, until, whole)
    union all by name
    from connections_asked(window_since(since, whole), window_until(since, until, whole))
)
select attempt as connection, * exclude (attempt, ns, client_ns)
from every
where (only_namespace is null or only_namespace in (client_namespace, server_namespace, door_namespace))
    and (only_service is null or only_service = door_service);

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
