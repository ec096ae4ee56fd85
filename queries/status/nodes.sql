-- The nodes, what came from each and what it lost.
create or replace view status_nodes as
with seen as (
    select cluster, node, sum(flows)::bigint as flows, min(first_time) as first_flow, max(last_time) as last_flow
    from counts_asked(make_timestamp_ns(0), timestamp_ns '2262-01-01')
    where node <> ''
    group by all
),
known as (
    select cluster, node from seen
    union select cluster, node from nodes
    union select cluster, node from relay_nodes
)
select
    k.cluster, k.node,
    (select string_agg(distinct v.version, ', ' order by v.version) from node_versions v where v.cluster = k.cluster and v.node = k.node) as version,
    coalesce(s.flows, 0) as flows, s.first_flow, s.last_flow,
    (select any_value(r.state order by r.time desc) from relay_nodes r where r.cluster = k.cluster and r.node = k.node) as state,
    (select any_value(r.max_flows order by r.time desc) from relay_nodes r where r.cluster = k.cluster and r.node = k.node) as ring,
    (select count(*) from gaps g where g.cluster = k.cluster and g.node = k.node) as gaps,
    (select events_total(l.num_events_lost) from lost_events l where l.cluster = k.cluster and l.node = k.node) as lost_events
from known k
left join seen s on s.cluster = k.cluster and s.node = k.node
order by 1, 2;
