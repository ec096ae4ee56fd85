-- The events that decide what happened to a connection, one macro per kind, each with the node that saw it.
-- What repeats with every packet is told once per tuple and slice of ten seconds (`slice_ns`).
-- Sources of the rules: measurements on real meshes, docs/internals.md "What a flow means".

-- Where they are read from: all flows here, as while none are stored as events; else sql/read_stored.sql stands in its place, and
-- while a report is made, or a stretch settled, what is found of both once (analyzer/once.py, collector/write/settle.py).
create or replace macro events_asked(since, until) as table from flows where time >= since and time < until;

-- Whether any of these macros takes a flow. Wider than they are where they depend on objects, which may come later.
create or replace macro decides(
    event_type, event_subtype, observation_point, trace_reason, is_reply, verdict, protocol, tcp_flags, icmp_type, source_xlated, source_id, destination_id
) as coalesce(
    is_trace(event_type) and (
        trace_reason = 'NEW'
        or observation_point = 'TO_ENDPOINT' and destination_id is not null and (is_reply or is_reply is null and trace_reason = 'REPLY' or protocol = 'TCP' and is_syn_ack(tcp_flags))
        or may_open(protocol, tcp_flags, icmp_type) and (
            observation_point = 'FROM_ENDPOINT' and source_id is not null
            or enters_node(observation_point) and destination_id is null
            or leaves_node(observation_point) and is_reply is not true and (source_id is null or source_xlated is not null)
        )
        or leaves_node(observation_point) and trace_reason = 'REPLY' and source_id is null and protocol in ('TCP', 'UDP', 'SCTP')
    )
    or is_socket_event(event_type) and (before_translation(event_subtype) or after_translation(event_subtype))
    or is_drop(event_type, verdict),
    false
);

-- All flows that came, also those that were only counted (collect --keep events).
create or replace view flows_seen as
select time, uuid, batch, cluster, node from flows
union all by name
from left_out_flows;

-- The flows that decide, by row of the table, and whether such a one comes with every packet.
create or replace macro every_deciding_flow(since, until) as table
select
    rowid as flow, time, uuid, cluster, node, verdict, drop_reason, event_type, event_subtype, observation_point, trace_reason, is_reply, traffic_direction,
    protocol, source, source_port, source_xlated, destination, destination_port, tcp_flags, icmp_type,
    source_id, source_identity, source_cluster, source_namespace, source_pod,
    destination_id, destination_identity, destination_cluster, destination_namespace, destination_pod, destination_service,
    socket_cookie, ingress_flow_count,
    not coalesce(is_trace(event_type) and trace_reason = 'NEW' or is_socket_event(event_type) or is_drop(event_type, verdict), false) as repeats
from flows
where time >= since and time < until and decides(event_type, event_subtype, observation_point, trace_reason, is_reply, verdict, protocol, tcp_flags, icmp_type, source_xlated, source_id, destination_id);

-- Those flows, but of what comes with every packet only the first and the last of each slice: all that these macros tell of it.
create or replace macro deciding_flows(since, until) as table
with ends as materialized (
    select unnest([arg_min(flow, (time, uuid)), arg_max(flow, (time, uuid))]) as flow
    from every_deciding_flow(since, until)
    where repeats
    -- All that the macros tell flows apart by, but for their times.
    group by slice_of(epoch_ns(time)), cluster, node, hash(
        observation_point, trace_reason, is_reply, traffic_direction, protocol, source, source_port, source_xlated, destination, destination_port,
        may_open(protocol, tcp_flags, icmp_type), is_syn_ack(tcp_flags), source_id is null, source_identity, destination_id is null, ingress_flow_count is null
    )
)
select * exclude (flow, repeats)
from every_deciding_flow(since, until)
where not repeats or flow in (from ends);

-- Answers that nothing marks as such: connection tracking called them new, or they were dropped, which shows no direction,
-- and they are datagrams or TCP without flags. Between two ends the first packet calls, by the clock of one node; of what
-- came without another one, the ports of services tell: from a server's to one that clients are given.
create or replace macro unmarked_answers(since, until) as table
with told as (
    select
        time, uuid, cluster, node, protocol, source, source_port, destination, destination_port,
        -- numbers sort faster than texts
        hash(cluster, node, protocol, source, source_port) as from_end, hash(cluster, node, protocol, destination, destination_port) as to_end,
        least(from_end, to_end) as one_end, greatest(from_end, to_end) as other_end,
        -- times may have been rounded to the same one
        of_client(destination_port) and not of_client(source_port) as to_client
    from events_asked(moved(since, -nearby_ns() / 1e9), until)
    where goes_either_way(protocol, tcp_flags) and is_reply is not true and not is_sum(ingress_flow_count)
        and (is_trace(event_type) and trace_reason = 'NEW' or is_drop(event_type, verdict))
        and source_port is not null and destination_port is not null
),
exchanges as (
    select
        *, count(*) filter (fresh) over (partition by one_end, other_end order by time, to_client, uuid) as exchange
    from (
        select *, coalesce(epoch_ns(time) - lag(epoch_ns(time)) over ends > nearby_ns(), true) as fresh
        from told
        window ends as (partition by one_end, other_end order by time, to_client, uuid)
    )
),
begun as (
    select *, first_value(from_end) over (partition by one_end, other_end, exchange order by time, to_client, uuid) as caller
    from exchanges
)
select time, uuid, cluster, node
from begun
where from_end <> caller
    or of_client(destination_port)
        and (source, source_port, protocol) in (select (address, port, protocol) from backends)
        and (destination, destination_port, protocol) not in (select (address, port, protocol) from backends where port is not null);

-- A connection reached a pod: exactly one such event per TCP or UDP connection and per ping process, at any aggregation
-- level.
create or replace macro arrivals(since, until) as table
select
    time, epoch_ns(time) as ns, uuid, cluster, node, report_protocol(protocol) as protocol, observation_point,
    source, source_port, source_identity, source_id, source_cluster, source_namespace, source_pod,
    destination, destination_port, destination_namespace, destination_pod
from events_asked(since, until)
where is_trace(event_type) and observation_point in ('TO_ENDPOINT', 'TO_PROXY') and trace_reason = 'NEW'
    and destination_id is not null and is_reply is not true
    and may_be_new(protocol, tcp_flags, icmp_type) and not is_sum(ingress_flow_count)
    and not cilium_health(source_identity) and not cilium_health(destination_identity);

-- A pod's connection left its node, before any masquerade.
create or replace macro departures(since, until) as table
select
    time, epoch_ns(time) as ns, uuid, cluster, node, report_protocol(protocol) as protocol, observation_point,
    source, source_port, source_cluster, source_namespace, source_pod,
    destination, destination_port, destination_identity, destination_cluster, destination_namespace, destination_pod
from events_asked(since, until)
where is_trace(event_type) and leaves_node(observation_point) and trace_reason = 'NEW'
    and source_id is not null and is_reply is not true
    and may_be_new(protocol, tcp_flags, icmp_type) and not is_sum(ingress_flow_count)
    and not cilium_health(source_identity) and not cilium_health(destination_identity);

-- A packet left under a node's own address: a host process, or what an ingress node passes on; both look the same.
create or replace macro host_departures(since, until) as table
select
    min(epoch_ns(time)) as ns, max(epoch_ns(time)) as last_ns, slice_of(epoch_ns(time)) as slice, cluster, node, report_protocol(protocol) as protocol,
    source, source_port, destination, destination_port
from events_asked(since, until)
where is_trace(event_type) and leaves_node(observation_point) and not is_sum(ingress_flow_count)
    and source_id is null and is_reply is not true
    -- Into a tunnel a host's packets go under identity 6; what an ingress node passes on into it says INGRESS.
    and (own_host(source_identity) or remote_node(source_identity) and observation_point = 'TO_OVERLAY' and traffic_direction is distinct from 'INGRESS')
    and may_open(protocol, tcp_flags, icmp_type)
group by all;

-- A node took part in a connection to an address and port of its own: seen coming in, or in the answer going out (the
-- answer shows at aggregation medium too).
create or replace macro ingresses(since, until) as table
select min(ns) as ns, max(ns) as last_ns, slice_of(ns) as slice, cluster, node, protocol, client, client_port, frontend, frontend_port
from (
    select
        epoch_ns(time) as ns, cluster, node, report_protocol(protocol) as protocol,
        source as client, source_port as client_port, destination as frontend, destination_port as frontend_port
    from events_asked(since, until)
    where is_trace(event_type) and enters_node(observation_point) and destination_id is null and not is_sum(ingress_flow_count)
        and may_open(protocol, tcp_flags, icmp_type)
    union all
    select
        epoch_ns(time) as ns, cluster, node, report_protocol(protocol) as protocol,
        destination as client, destination_port as client_port, source as frontend, source_port as frontend_port
    from events_asked(since, until)
    where is_trace(event_type) and leaves_node(observation_point) and trace_reason = 'REPLY' and not is_sum(ingress_flow_count)
        -- Cilium 1.20 tells the identity of the pod behind beside the node's address.
        and source_id is null and (own_host(source_identity) or source in (select unnest(addresses) from nodes))
        and protocol in ('TCP', 'UDP', 'SCTP')
) as seen
group by all;

-- A masquerade seen where it was done, which only aggregation none shows. On a reply the same field is the ClusterIP.
create or replace macro masquerades(since, until) as table
select
    min(epoch_ns(time)) as ns, max(epoch_ns(time)) as last_ns, slice_of(epoch_ns(time)) as slice, cluster, node, report_protocol(protocol) as protocol,
    source, source_port, source_xlated, destination, destination_port
from events_asked(since, until)
where is_trace(event_type) and leaves_node(observation_point) and not is_sum(ingress_flow_count)
    and source_xlated is not null and is_reply is not true and coalesce(trace_reason, '') <> 'REPLY'
    and may_open(protocol, tcp_flags, icmp_type)
group by all;

-- A pod sent something toward an address, before load balancing of packets; only aggregation none shows it.
create or replace macro sends(since, until) as table
select
    min(epoch_ns(time)) as ns, max(epoch_ns(time)) as last_ns, slice_of(epoch_ns(time)) as slice, cluster, node, report_protocol(protocol) as protocol,
    source, source_port, destination, destination_port
from events_asked(since, until)
where is_trace(event_type) and observation_point = 'FROM_ENDPOINT' and source_id is not null and not is_sum(ingress_flow_count)
    and may_open(protocol, tcp_flags, icmp_type)
group by all;

-- What a pod's socket aimed at and what the socket load balancer made of it: the two events of one socket, nearest in time.
create or replace macro socket_calls(since, until) as table
with aims as (
    select epoch_ns(time) as ns, cluster, node, socket_cookie, report_protocol(protocol) as protocol, destination, destination_port, destination_service
    from events_asked(since, until)
    where is_socket_event(event_type) and socket_cookie is not null and before_translation(event_subtype)
        and not is_sum(ingress_flow_count)
),
translations as materialized (
    select
        row_number() over () as translation, epoch_ns(time) as ns, uuid, cluster, node, socket_cookie, report_protocol(protocol) as protocol,
        source, destination, destination_port
    from events_asked(since, until)
    where is_socket_event(event_type) and socket_cookie is not null and after_translation(event_subtype)
        and not is_sum(ingress_flow_count)
),
aimed as (
    select t.translation, a.destination as aim, a.destination_port as aim_port, a.destination_service as aim_service
    from translations t
    join aims a on a.cluster = t.cluster and a.node = t.node and a.socket_cookie = t.socket_cookie and a.protocol = t.protocol
    where abs(a.ns - t.ns) <= same_packet_ns()
    qualify row_number() over (partition by t.translation order by abs(a.ns - t.ns), a.destination, a.destination_port) = 1
)
select
    t.ns, t.uuid, t.cluster, t.node, t.protocol, t.source, t.destination, t.destination_port, a.aim, a.aim_port, a.aim_service
from translations t
left join aimed a using (translation);

-- Answers as they reach a pod; `service_address` is there where the packet load balancer put the ClusterIP back.
create or replace macro answers(since, until) as table
select
    min(epoch_ns(time)) as ns, max(epoch_ns(time)) as last_ns, slice_of(epoch_ns(time)) as slice, cluster, node, report_protocol(protocol) as protocol,
    destination as source, destination_port as source_port, source as destination, source_port as destination_port,
    max(source_xlated) as service_address
from events_asked(since, until)
where is_trace(event_type) and observation_point = 'TO_ENDPOINT' and destination_id is not null and not is_sum(ingress_flow_count)
    and (is_reply or is_reply is null and trace_reason = 'REPLY' or protocol = 'TCP' and is_syn_ack(tcp_flags))
group by all;

-- Packets that opened a connection, or would have, and were dropped.
create or replace macro drops(since, until) as table
select
    time, epoch_ns(time) as ns, uuid, cluster, node, report_protocol(protocol) as protocol, drop_reason,
    source, source_port, source_id, source_cluster, source_namespace, source_pod,
    destination, destination_port, destination_cluster, destination_namespace, destination_pod
from events_asked(since, until)
where is_drop(event_type, verdict) and is_reply is not true
    and may_open(protocol, tcp_flags, icmp_type) and not is_sum(ingress_flow_count)
    and not cilium_health(source_identity) and not cilium_health(destination_identity);

-- Attempts that were dropped on the way: all packets of one attempt together. TCP repeats a lost SYN for about a minute.
create or replace macro refusals(since, until) as table
with packets as (
    from drops(moved(since, -syn_repeats_ns() / 1e9), until)
    anti join unmarked_answers(moved(since, -syn_repeats_ns() / 1e9), until) using (time, uuid, cluster, node)
),
numbered as (
    select *, count(*) filter (fresh) over (partition by protocol, source, source_port, destination, destination_port order by ns) as attempt
    from (
        select *, coalesce(ns - lag(ns) over (partition by protocol, source, source_port, destination, destination_port order by ns) > syn_repeats_ns(), true) as fresh
        from packets
    )
)
select
    min(ns) as ns, arg_min(uuid, ns) as uuid, arg_min(cluster, ns) as cluster, arg_min(node, ns) as node, protocol,
    max(drop_reason) as drop_reason, source, source_port, max(source_cluster) as source_cluster,
    max(source_namespace) as source_namespace, max(source_pod) as source_pod, destination, destination_port,
    max(destination_cluster) as destination_cluster, max(destination_namespace) as destination_namespace, max(destination_pod) as destination_pod
from numbered
group by protocol, source, source_port, destination, destination_port, attempt;
