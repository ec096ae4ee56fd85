-- Stretches in which a node sent nothing although flows were asked for: it failed or was not reachable, or its agent
-- started anew with an empty ring. They end with the node's next flow, else with the last flow of all. Where the node then
-- sent again what had come before, its ring was whole and nothing is missing. A Relay that cannot dial a node which it has
-- lost has not lost it again: what came late, between the two, is no second gap.
create or replace macro gaps_told(since, until) as table
with restarts as materialized (
    -- What a live collection misses it writes down itself.
    select distinct cluster, node, epoch_ns(time)::hugeint - uptime_ns as ns
    from relay_nodes
    where not exists (from gaps g where g.cluster = relay_nodes.cluster and g.node = relay_nodes.node and g.reader <> '')
        and not exists (from relays r where r.reader = relay_nodes.reader and r.time = relay_nodes.time)
        -- Several of one Relay at one moment have no times of their own: when a node began does not follow.
        and not exists (from relay_nodes o where o.reader = relay_nodes.reader and o.cluster = relay_nodes.cluster and o.node = relay_nodes.node and o.time = relay_nodes.time and o.uptime_ns <> relay_nodes.uptime_ns)
        and uptime_ns is not null and time is not null and epoch_ns(time)::hugeint - uptime_ns between epoch_ns(since) and epoch_ns(until)
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
    join flows_seen f on f.cluster = r.cluster and f.node = r.node
    where f.time >= since and f.time < until and epoch_ns(f.time) < r.ns
    group by r.cluster, r.node, r.ns
),
times as materialized (
    select f.cluster, f.node, epoch_ns(f.time) as ns
    from flows_seen f
    where f.time >= moved(since, -120) and f.time < until and (f.cluster, f.node) in (select (cluster, node) from starts)
),
ended as (
    select
        s.cluster, s.node, s.ns, max(t.ns) filter (t.ns <= s.ns) as last_ns,
        coalesce(min(t.ns) filter (t.ns > s.ns), (select max(epoch_ns(time)) from flows_seen where time >= since and time < until)) as end_ns
    from (from starts where ns >= epoch_ns(kept_since('flows'))) s
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
            and epoch_ns(r.first) <= e.last_ns and epoch_ns(r.last) >= e.last_ns - seconds_ns(0.5)
    )
group by cluster, node, end_ns;

-- The same, and the gaps that live collections write down; of pruned flows what they told (reader '').
create or replace macro gaps_between(since, until) as table
from gaps_told(since, until)
union all
select
    cluster, node, greatest(first_time, since) as first_time, least(end_time, until) as end_time,
    (epoch_ns(least(end_time, until)) - epoch_ns(greatest(first_time, since))) / 1e9 as seconds
from gaps
where first_time < until and end_time > since;
