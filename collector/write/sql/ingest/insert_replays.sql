-- Stretches of the batch, in the order they came, in which a node sent what the same reader had from it already. Before
-- the batch itself is stored.
insert into replays
with known as (
    select distinct f.time, f.uuid, f.cluster, f.node
    from flows_seen f
    join batches b using (batch)
    where f.time between make_timestamp_ns($first) and make_timestamp_ns($last)
        and b.collection = $collection and b.reader = getvariable('reader')
),
told as (
    select
        s.position, s.time, s.cluster, s.node,
        k.uuid is not null or s.position > min(s.position) over (partition by s.time, s.uuid, s.cluster, s.node) as again
    from staged s
    left join known k on k.time = s.time and k.uuid = s.uuid and k.cluster = s.cluster and k.node = s.node
    where s.problem is null
),
stretches as (
    select
        *,
        row_number() over (partition by cluster, node order by position)
            - row_number() over (partition by cluster, node, again order by position) as stretch
    from told
)
select cluster, node, min(time) as first, max(time) as last, count(*) as flows, $batch as batch
from stretches
where again
group by cluster, node, stretch;
