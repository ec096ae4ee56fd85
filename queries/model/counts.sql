-- How many flows there were, so that nobody has to read them for that.

-- How many flows of each node came by which batch, and how many had what, minute by minute; `flows` is the name of a relation.
create or replace macro counts_of(flows) as table
select
    batch, cluster, node, min(time) as first_time, max(time) as last_time, count(*) as flows,
    count(*) filter (is_sum(ingress_flow_count)) as sums,
    count(*) filter (event_type is null) as untyped,
    count(*) filter (is_made_up(uuid)) as unnamed,
    count(*) filter (is_trace(event_type)) as traces,
    count(*) filter (is_trace(event_type) and observation_point is null) as without_point,
    -- what hosts send often has no reason, all of it where iptables masquerades
    count(*) filter (is_trace(event_type) and starts_with(observation_point, 'TO_') and not coalesce(own_host(source_identity) or remote_node(source_identity), false)) as outward,
    count(trace_reason) as with_reason,
    count(*) filter (is_trace(event_type) and observation_point = 'TO_ENDPOINT') as delivered,
    count(*) filter (is_trace(event_type) and observation_point = 'TO_ENDPOINT' and trace_reason is null) as without_reason,
    count(*) filter (is_trace(event_type) and observation_point = 'TO_ENDPOINT' and destination_id is null) as without_destination_id,
    count(*) filter (is_trace(event_type) and observation_point = 'TO_ENDPOINT' and source_identity is null) as without_source_identity,
    count(*) filter (is_trace(event_type) and observation_point = 'TO_ENDPOINT' and destination_identity is null) as without_destination_identity,
    count(*) filter (is_trace(event_type) and leaves_node(observation_point) and trace_reason = 'NEW' and source_pod is not null) as pods_left,
    count(source_id) as with_source_id, count(destination_id) as with_destination_id,
    count(source_identity) as with_source_identity, count(destination_identity) as with_destination_identity,
    -- what is no IP has neither protocol nor addresses
    count(source) as with_source, count(*) filter (is_trace(event_type) and protocol is not null and source is null) as without_source,
    count(destination) as with_destination, count(*) filter (is_trace(event_type) and protocol is not null and destination is null) as without_destination,
    count(*) filter (is_trace(event_type) and protocol is not null) as with_protocol,
    count(*) filter (is_trace(event_type) and protocol in ('TCP', 'UDP', 'SCTP')) as with_ports,
    count(*) filter (is_trace(event_type) and source_port is not null) as with_source_port,
    count(*) filter (is_trace(event_type) and destination_port is not null) as with_destination_port,
    count(*) filter (is_trace(event_type) and protocol = 'TCP') as tcp,
    count(*) filter (is_trace(event_type) and protocol = 'TCP' and tcp_flags > 0) as with_flags,
    count(*) filter (is_socket_event(event_type)) as socket_events,
    count(*) filter (is_socket_event(event_type) and socket_cookie is not null) as with_cookie,
    count(*) filter (is_socket_event(event_type) and event_subtype > 0) as with_socket_point,
    count(*) filter (is_socket_event(event_type) and event_subtype > 0 and socket_cookie is not null) as telling
from query_table(flows)
group by batch, cluster, node, minute_of(epoch_ns(time));

-- The same of a window, with those that were counted and not stored (collect --keep events).
create or replace macro flows_counted(since, until) as table
with stored as (from flows where time >= since and time < until)
from counts_of('stored')
union all by name
from left_out_counts where first_time >= since and first_time < until;

-- What is asked for: made of flows here, as while nothing is stored; else sql/read_stored.sql stands in its place, and while a report
-- is made what it needs of both.
create or replace macro counts_asked(since, until) as table from flows_counted(since, until);

-- From when to when stored counts lie in a window as a whole: the minute at either end is counted anew where the window cuts it
-- and flows are kept.
create or replace macro whole_counts(since, until) as table
select whole_from, greatest(whole_from, if(cut_behind, minute_start(until), until)) as whole_to
from (
    select
        if(since > kept_since('flows') and exists (from flow_counts where first_time < since and last_time >= since), least(until, minute_start(moved(since, 60))), since) as whole_from,
        until > kept_since('flows') and exists (from flow_counts where first_time < until and last_time >= until) as cut_behind
);

-- The same as flows_counted, of stored counts as far as they go.
create or replace macro counts_between(since, until) as table
with whole as materialized (from whole_counts(since, until))
from flow_counts where first_time >= (select whole_from from whole) and first_time < (select whole_to from whole)
union all by name
from flows_counted(since, (select whole_from from whole))
union all by name
from flows_counted((select whole_to from whole), until);

-- Nodes whose sockets are traced.
create or replace macro nodes_tracing_sockets(since, until) as table
select distinct cluster, node from counts_asked(since, until) where telling > 0;

-- The first and last moment of a window in which there are flows, in nanoseconds; the last is not part of it.
create or replace macro window_seen(since := null::timestamp_ns, until := null::timestamp_ns, whole := false) as table
select epoch_ns(min(first_time)) as first_ns, epoch_ns(max(last_time)) + 1 as end_ns
from counts_asked(window_since(since, whole), window_until(since, until, whole));

-- The same as times; without any flow what was asked for.
create or replace macro window_bounds(since, until, whole) as table
select greatest(min(first_time), window_since(since, whole)) as first_time, least(moved(max(last_time), 1e-9), window_until(since, until, whole)) as end_time
from counts_asked(window_since(since, whole), window_until(since, until, whole));

-- Where the last second of what was read around a window begins: what left or arrived later may have its other end after
-- it.
create or replace macro last_second_ns(since, until) as
    (select max(epoch_ns(last_time)) - seconds_ns(1) from counts_asked(since, read_to(until)));
