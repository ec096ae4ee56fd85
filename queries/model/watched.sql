-- Nodes that should have been watched: those of Kubernetes, of the Relays, and those that sent anything.
-- `watched` is false where nothing says that a Relay was connected to the node and no flow of it came, and where no flow
-- of it came although other nodes show traffic with its pods (before the last second: its own events may come later).
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
last_second as materialized (
    select last_second_ns(since, until) as ns
),
silent as (
    select distinct r.cluster, r.node
    from told t
    join node_ranges r using (cluster, node)
    join (
        select distinct ipv4_number(destination) as address from departures(since, until) where ns <= (select ns from last_second)
        union
        select distinct ipv4_number(source) from arrivals(since, until) where ns <= (select ns from last_second)
    ) a on a.address between r.first and r.last
    where t.flows = 0 and t.watched
)
select t.cluster, t.node, t.flows, t.watched and s.node is null as watched
from told t
left join silent s on s.cluster = t.cluster and s.node = t.node;

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
