-- Backends that give no arrival, proxies that call in the name of others, and calls that leave no packet.

-- The backend that Cilium's operator gives to the Services of Ingresses and Gateways: Envoy takes what they are sent.
create or replace macro envoy_backend() as '192.192.192.192';

-- Under these addresses a pod sees itself where the packet load balancer led it back to it (ipv4- and
-- ipv6-service-loopback-address; 169.254.42.1 and fe80::1 if nothing is set). Others on the link are hosts.
create or replace macro leads_back(source, identity) as
    (starts_with(source, '169.254.') or starts_with(source, 'fe80:'))
    and not coalesce(own_host(identity) or remote_node(identity) or cilium_health(identity) or cilium_ingress(identity), false);

-- Known backends that cannot be seen to receive: an arrival needs an endpoint of Cilium on a node whose events are read.
--   unseen:  host (a node's own address, as hostNetwork pods have it) | machine (no pod, no node) | proxy (Envoy, for the
--            Service of an Ingress or Gateway) | node (a pod on a node of which nothing was seen)
-- One that was seen to receive is not here, whatever else is known of it.
create or replace macro unseen_backends(since, until) as table
with
known as (
    select distinct cluster, namespace, service, address, port, protocol, node, pod
    from backends
    where valid_from < moved(until, 2) and (valid_to is null or valid_to > moved(since, -2))
),
node_owned as (
    select unnest(addresses) as address from nodes union select address from node_addresses
),
in_range as (
    select distinct k.address from known k join pod_ranges r on address_number(k.address) between r.first and r.last
),
watched as materialized (
    select cluster, node, bool_or(watched) as watched from watched_nodes(since, until) group by all
),
receiving as (
    select distinct destination from arrivals(read_from(since), read_to(until))
)
select
    k.*,
    case
        when k.address = envoy_backend() then 'proxy'
        when h.address is not null then 'host'
        when k.node is not null and not coalesce(w.watched, k.cluster not in (select cluster from watched)) then 'node'
        when k.pod is null and k.node is null and r.address is null then 'machine'
    end as unseen
from known k
left join node_owned h on h.address = k.address
left join in_range r on r.address = k.address
left join watched w on w.cluster = k.cluster and w.node = k.node
where unseen is not null and k.address not in (from receiving);

-- Why backends cannot be seen to receive, for people.
create or replace macro unseen_words(unseen) as
    case unseen when 'host' then 'host network' when 'machine' then 'no pod' when 'proxy' then 'Envoy' when 'node' then 'node out of sight' end;

-- Nodes that show what their pods call without its arrival: what leaves them, or what their sockets were led to.
create or replace macro nodes_that_tell(since, until) as table
select distinct cluster, node
from events_asked(since, until)
where (
    is_trace(event_type) and leaves_node(observation_point) and trace_reason = 'NEW' and source_id is not null
    or is_socket_event(event_type) and after_translation(event_subtype)
);

-- The same by address; `cluster` is null where backends of several clusters have it. `of` is the name of a relation of
-- unseen_backends.
create or replace macro unseen_addresses(of) as table
select address, port, protocol, if(count(distinct cluster) = 1, any_value(cluster), null) as cluster, min(unseen) as unseen
from query_table(of)
where unseen <> 'proxy'
group by all;

-- Attempts toward backends that cannot be seen to receive. Parameters are names of relations: attempts of which only the
-- client's end was seen, unseen_backends, unseen_addresses.
create or replace macro attempts_unseen(attempts, of, addresses) as table
select s.attempt, u.unseen, u.cluster as backend_cluster
from query_table(attempts) s
join query_table(addresses) u on u.address = s.server_address and u.protocol = s.protocol and (u.port = s.server_port or u.port is null)
qualify row_number() over (partition by s.attempt order by u.port nulls last) = 1
union all
-- Through a door of a Service that Envoy answers.
select distinct s.attempt, 'proxy', null
from query_table(attempts) s
semi join (
    select namespace, service, cluster from query_table(of)
    group by all having bool_and(unseen = 'proxy')
) e on e.namespace = s.door_namespace and e.service = s.door_service and e.cluster = s.ingress_cluster;

-- Departures whose destination was seen to get them, under the client's own address. Parameters are names of relations:
-- departures without an arrival, of `ingresses`.
create or replace macro departures_received(departures, passages) as table
select distinct s.departure
from (select *, unnest(slices_around(ns)) as slice from query_table(departures)) s
join query_table(passages) p
    on p.slice = s.slice and p.client = s.source and p.client_port = s.source_port and p.frontend = s.destination and p.frontend_port = s.destination_port
    and p.protocol = s.protocol and s.ns between p.ns - nearby_ns() and p.last_ns + nearby_ns();

-- Addresses of Cilium's own Envoy, which calls for the clients of Ingresses and Gateways: in a pod range, and no pod's.
create or replace macro proxy_addresses(since, until) as table
select hour_of(epoch_ns(time)) as hour, source as address
from flows
where time >= since and time < until and cilium_ingress(source_identity) and source is not null
union
select hour_of(epoch_ns(time)), destination
from flows
where time >= since and time < until and cilium_ingress(destination_identity) and destination is not null;

-- Socket calls that the load balancer led back to the caller itself: they stay in the pod, and no packet shows. A TCP
-- socket calls once; a UDP socket that is told of may have sent much or nothing.
create or replace macro calls_to_self(since, until) as table
select
    row_number() over (order by time, cluster, node, uuid) as call, time, epoch_ns(time) as ns, uuid, cluster, node,
    report_protocol(protocol) as protocol, source, destination_port, source_cluster, source_namespace, source_pod
from events_asked(since, until)
where is_socket_event(event_type) and after_translation(event_subtype) and source = destination and socket_cookie is not null
qualify report_protocol(protocol) = 'TCP' or row_number() over (partition by cluster, node, socket_cookie order by time, uuid) = 1;

-- Those of which no arrival tells as well. Parameters are names of relations: calls_to_self, arrivals_owned.
create or replace macro calls_without_packet(calls, arrivals) as table
with line as materialized (
    select arrival as id, true as is_attempt, ns, row(destination, coalesce(destination_port, 0), protocol) as key
    from query_table(arrivals)
    where source = destination or leads_back(source, source_identity)
    union all
    select call, false, ns, row(source, coalesce(destination_port, 0), protocol) from query_table(calls)
),
shown as materialized (from paired_calls('line'))
from query_table(calls) anti join shown using (call);
