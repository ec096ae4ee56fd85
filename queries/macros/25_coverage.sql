-- What was watched, and what could not be seen.

-- Nodes that should have been watched: those of Kubernetes, of the Relays, and those that sent anything.
-- `watched` is false where nothing says that a Relay was connected to the node and no flow of it came, and where no flow
-- of it came although other nodes show traffic with its pods.
create or replace macro watched_nodes(since, until) as table
with seen as (
    select cluster, node, count(*) as flows, true as watched
    from flows where time >= since and time < until and node <> ''
    group by all
    union all
    select cluster, node, 0, state = 'NODE_CONNECTED'
    from node_status where time >= moved(since, -60) and time < until and node <> ''
    union all
    select cluster, node, 0, state = 'NODE_CONNECTED'
    from relay_nodes where time is null or time >= since and time < moved(until, 60)
    union all
    select cluster, node, 0, false
    from nodes where valid_from < until and (valid_to is null or valid_to > since)
),
told as (
    select cluster, node, sum(flows)::ubigint as flows, bool_or(watched) as watched from seen group by all
),
silent as (
    select distinct r.cluster, r.node
    from told t
    join node_ranges r using (cluster, node)
    join (
        select distinct ipv4_number(destination) as address from departures(since, until)
        union
        select distinct ipv4_number(source) from arrivals(since, until)
    ) a on a.address between r.first and r.last
    where t.flows = 0 and t.watched
)
select t.cluster, t.node, t.flows, t.watched and s.node is null as watched
from told t
left join silent s on s.cluster = t.cluster and s.node = t.node;

-- Stretches in which a node sent nothing although flows were asked for: it failed or was not reachable, or its agent
-- started anew with an empty ring. They end with the node's next flow, else with the last flow of all. Where the node then
-- sent again what had come before, its ring was whole and nothing is missing. A Relay that cannot dial a node which it has
-- lost has not lost it again: what came late, between the two, is no second gap.
create or replace macro gaps_between(since, until) as table
with restarts as materialized (
    -- What a live collection misses it writes down itself.
    select distinct cluster, node, epoch_ns(time) - uptime_ns::bigint as ns
    from relay_nodes
    where not exists (from gaps g where g.cluster = relay_nodes.cluster and g.node = relay_nodes.node)
        and not exists (from relays r where r.reader = relay_nodes.reader and r.time = relay_nodes.time)
        and uptime_ns is not null and time is not null and epoch_ns(time) - uptime_ns::bigint between epoch_ns(since) and epoch_ns(until)
),
losses as materialized (
    select s.cluster, s.node, s.reader, s.time, coalesce(s.message ilike '%error while dialing%', false) as redial
    from node_status s
    join batches b using (batch)
    join collections c on c.collection = b.collection and c.kind = 'import'
    where s.state in ('NODE_ERROR', 'NODE_UNAVAILABLE', 'NODE_GONE') and s.node <> '' and s.time >= moved(since, -60) and s.time < until
),
starts as materialized (
    select l.cluster, l.node, epoch_ns(l.time) as ns
    from losses l
    where not l.redial
        or not exists (from losses e where e.cluster = l.cluster and e.node = l.node and e.reader = l.reader and e.time < l.time)
    union
    select r.cluster, r.node, max(epoch_ns(f.time))
    from restarts r
    join flows f on f.cluster = r.cluster and f.node = r.node
    where f.time >= since and f.time < until and epoch_ns(f.time) < r.ns
    group by r.cluster, r.node, r.ns
),
times as materialized (
    select f.cluster, f.node, epoch_ns(f.time) as ns
    from flows f
    where f.time >= moved(since, -120) and f.time < until and (f.cluster, f.node) in (select (cluster, node) from starts)
),
ended as (
    select
        s.cluster, s.node, s.ns, max(t.ns) filter (t.ns <= s.ns) as last_ns,
        coalesce(min(t.ns) filter (t.ns > s.ns), (select max(epoch_ns(time)) from flows where time >= since and time < until)) as end_ns
    from starts s
    left join times t on t.cluster = s.cluster and t.node = s.node
    group by s.cluster, s.node, s.ns
)
select
    cluster, node, make_timestamp_ns(greatest(min(ns), epoch_ns(since))) as first_time, make_timestamp_ns(end_ns) as end_time,
    (end_ns - greatest(min(ns), epoch_ns(since))) / 1e9 as seconds
from ended e
where end_ns > greatest(ns, epoch_ns(since))
    and not exists (
        from replays r
        where r.cluster = e.cluster and r.node = e.node
            and epoch_ns(r.first) <= e.last_ns and epoch_ns(r.last) >= e.last_ns - 500000000
    )
group by cluster, node, end_ns
union all
select
    cluster, node, greatest(first_time, since) as first_time, least(end_time, until) as end_time,
    (epoch_ns(least(end_time, until)) - epoch_ns(greatest(first_time, since))) / 1e9 as seconds
from gaps
where first_time < until and end_time > since;

-- Events lost per node. Loss before the ring is the same for every reader; ring loss is a reader's own, and a node whose
-- other reader lost less has lost only that.
create or replace macro losses_between(since, until) as table
with lost as materialized (
    select cluster, node, reader, source = 'HUBBLE_RING_BUFFER' as in_ring, sum(num_events_lost) as events
    from lost_events
    where time >= since and time < until
    group by all
),
readers as (
    select distinct f.cluster, f.node, b.reader
    from (select distinct cluster, node, batch from flows where time >= since and time < until) f
    join batches b using (batch)
    union
    select cluster, node, reader from lost
),
ring as (
    select r.cluster, r.node, min(coalesce(l.events, 0)) as events
    from readers r
    left join lost l on l.cluster = r.cluster and l.node = r.node and l.reader = r.reader and l.in_ring
    group by all
)
select cluster, node, sum(events)::ubigint as events
from (
    select cluster, node, events from lost where not in_ring
    union all
    select cluster, node, events from ring
)
group by all
having sum(events) > 0;

-- Clusters of which a part was out of sight: nodes not watched, or gaps beyond a share of the window.
create or replace macro holes_between(since, until, max_unproved) as table
with bounds as materialized (
    select greatest(1, max(epoch_ns(time)) - min(epoch_ns(time))) / 1e9 as seconds from flows where time >= since and time < until
),
gaps as (
    select cluster, node, sum(seconds) as seconds from gaps_between(since, until) group by all
),
told as (
    select
        w.cluster, string_agg(w.cluster || '/' || w.node, ', ' order by w.node) filter (not w.watched) as unwatched,
        coalesce(max(g.seconds), 0) as gap_seconds
    from watched_nodes(since, until) w
    left join gaps g on g.cluster = w.cluster and g.node = w.node
    group by w.cluster
)
select t.cluster, t.unwatched, t.gap_seconds, b.seconds as window_seconds
from told t
cross join bounds b
where t.unwatched is not null or t.gap_seconds > max_unproved * b.seconds;

-- How far two nodes' clocks are apart: the median over connections whose ports tell both ends apart from all others. A
-- positive number says that the first node's clock is ahead. The two ends of one connection are at most 0.2 s apart.
create or replace macro clock_pairs(since, until) as table
with left_at as (
    select any_value(cluster || '/' || node) as node, any_value(ns) as ns, protocol, source_port, destination, destination_port
    from departures(since, until)
    where source_port is not null
    group by protocol, source_port, destination, destination_port
    having count(*) = 1
),
came_at as (
    select any_value(cluster || '/' || node) as node, any_value(ns) as ns, protocol, source_port, destination, destination_port
    from arrivals(since, until)
    where source_port is not null
    group by protocol, source_port, destination, destination_port
    having count(*) = 1
),
both_ends as (
    select l.node as left_node, c.node as came_node, (l.ns - c.ns) / 1e9 as seconds
    from left_at l
    join came_at c using (protocol, source_port, destination, destination_port)
    where l.node <> c.node
)
select node, other, median(seconds) as seconds, count(*) as connections
from (
    select left_node as node, came_node as other, seconds from both_ends
    union all
    select came_node, left_node, -seconds from both_ends
)
group by all
having count(*) >= 3;

-- Nodes whose clocks a live collection found to differ from its own: more than a Relay's sorting explains.
create or replace macro clocks_apart(since, until) as table
select cluster, node, max(if(lag_seconds > 3, -lag_seconds, -least(lag_seconds, 0))) as ahead_seconds
from clocks c
join collections r using (collection)
where (c.lag_seconds > 3 or c.lag_seconds < -0.5) and r.first_flow < until and r.last_flow >= since
group by all;

-- Seconds by which any two clocks are apart, 0 where they are as close as one clock would be.
create or replace macro clock_skew(since, until) as greatest(
    (select coalesce(max(seconds) filter (seconds > 0.5), 0) from clock_pairs(since, until)),
    (select coalesce(max(abs(ahead_seconds)), 0) from clocks_apart(since, until))
);
