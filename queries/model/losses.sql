-- How many events were lost in all; a damaged message may tell of more than 64 bits hold together.
create or replace macro events_total(events) as least(coalesce(sum(events), 0), 18446744073709551615)::ubigint;

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
    from (select distinct cluster, node, batch from counts_asked(since, until)) f
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
select cluster, node, events_total(events) as events
from (
    select cluster, node, events from lost where not in_ring
    union all
    select cluster, node, events from ring
)
group by all
having sum(events) > 0;
