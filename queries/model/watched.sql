-- Services that somebody on a node without agent takes part in: a backend is there, or what runs there called one. `calls`
-- is the name of a relation of arrivals.
create or replace macro services_without_agent(calls) as table
select namespace, service, cluster, node, false as calls
from backends
join nodes_without_agent using (cluster, node)
union
select b.namespace, b.service, w.cluster, w.node, true
from query_table(calls) a
join node_addresses n on n.address = a.source
join nodes_without_agent w on w.cluster = n.cluster and w.node = n.node
join backends b on b.address = a.destination and b.protocol = a.protocol and (b.port = a.destination_port or b.port is null);

-- Nodes that there are: those of Kubernetes, of the Relays, and those that sent anything.
--   watched:  false where nothing says that a Relay was connected to the node and no flow of it came, and where no flow
--             of it came although other nodes show traffic with its pods (before the last second: its own may come later)
--   agent:    false where Cilium does not run, so that nobody can watch it
create or replace macro watched_nodes(since, until) as table
with seen as (
    select cluster, node, flows, true as watched, true as named
    from counts_asked(since, until) where node <> ''
    union all
    select cluster, node, 0, state = 'NODE_CONNECTED', true
    from node_status where time >= moved(since, -60) and time < until and node <> ''
    union all
    select cluster, node, 0, state = 'NODE_CONNECTED', true
    from relay_nodes where time is null or time >= since and time < moved(until, 60)
    union all
    select cluster, node, 0, false, false
    from nodes where valid_from < until and (valid_to is null or valid_to > since)
),
told as (
    select cluster, node, sum(flows)::ubigint as flows, bool_or(watched) as watched, bool_or(named) as named from seen group by all
),
last_second as materialized (
    select last_second_ns(since, until) as ns
),
called as materialized (
    select address, cluster, address_number(address) as number, ns <= (select ns from last_second) as early
    from (
        select destination as address, destination_cluster as cluster, min(ns) as ns from departures(since, until) group by all
        union all
        select source, source_cluster, min(ns) from arrivals(since, until) group by all
    )
),
-- Pods with an identity: it is their node's agent that gave it.
managed as (
    select distinct b.cluster, b.node from backends b join called a on a.address = b.address and a.cluster = b.cluster
),
silent as (
    select t.cluster, t.node
    from told t
    join node_ranges r using (cluster, node)
    join called a on a.early and a.number between r.first and r.last and coalesce(a.cluster, t.cluster) = t.cluster
    where t.flows = 0 and t.watched
        -- Ranges that another node has as well name neither.
        and not exists (from node_ranges o where (o.cluster, o.node) <> (r.cluster, r.node) and a.number between o.first and o.last)
    group by all
)
select t.cluster, t.node, t.flows, t.watched and s.node is null as watched, t.named or w.node is null or m.node is not null as agent
from told t
left join silent s on s.cluster = t.cluster and s.node = t.node
left join nodes_without_agent w on w.cluster = t.cluster and w.node = t.node
left join managed m on m.cluster = t.cluster and m.node = t.node;

-- Why what reached a cluster may not have been seen there, in words; null where nothing explains it. Losses explain no more
-- than their number.
create or replace macro why_unseen(missing, unwatched, without_agent, gap_seconds, window_seconds, max_unproved, lost_events, lost_nodes) as
    nullif(concat_ws(
        '; ',
        'not watched: ' || unwatched,
        'backends are on nodes that run no Cilium agent: ' || without_agent,
        if(gap_seconds > max_unproved * window_seconds, format('nodes were out of sight for {:.1f} s of {:.1f} s', gap_seconds, window_seconds), null),
        if(lost_events >= missing, format('{} events of {} were lost', lost_events, lost_nodes), null)
    ), '');

-- Clusters of which a part was out of sight: nodes not watched, or gaps beyond a share of the window.
create or replace macro holes_between(since, until, max_unproved) as table
with bounds as materialized (
    select greatest(1, epoch_ns(end_time) - 1 - epoch_ns(first_time)) / 1e9 as seconds from window_bounds(since, until, false)
),
gaps as (
    select cluster, node, sum(seconds) as seconds from gaps_between(since, until) group by all
),
told as (
    select
        w.cluster, string_agg(w.cluster || '/' || w.node, ', ' order by w.node) filter (not w.watched and w.agent) as unwatched,
        coalesce(max(g.seconds), 0) as gap_seconds
    from watched_nodes(since, until) w
    left join gaps g on g.cluster = w.cluster and g.node = w.node
    group by w.cluster
)
select t.cluster, t.unwatched, t.gap_seconds, b.seconds as window_seconds
from told t
cross join bounds b
where t.unwatched is not null or t.gap_seconds > max_unproved * b.seconds;
