-- clusters: names from everything that carries one, numbers from cilium-config or from identities (number of a cluster << 16).
-- With maxConnectedClusters 511 the number takes a bit more (<< 15), in all clusters alike. cilium-config says so; else
-- the number that it gives, or two clusters that would have the same one.
delete from clusters;
insert into clusters
with configured as (
    select cluster, try_cast(state ->> 'cluster_id' as uinteger) as cluster_id, try_cast(state ->> 'max_connected_clusters' as uinteger) as most
    from kube_states
    where kind = 'ConfigMap'
),
named as (
    select cluster, null::uinteger as cluster_id from identities where cluster <> ''
    union select cluster, null from nodes
    union select cluster, null from services
    union select cluster, null from relay_nodes
    union select cluster, cluster_id from configured
),
-- The upper bits of identities; with 16 bits below them a cluster's identities have both values of the lowest one.
numbered as (
    select cluster, identity >> 15 as number, count(*) as times, count(*) over (partition by cluster) as numbers
    from identities
    where identity between 65536 and 16777215
    group by cluster, identity >> 15
),
shift as (
    select if(
        exists (from configured where most > 255 or cluster_id > 255)
        or not exists (from configured where most <= 255) and (
            exists (from configured c join numbered n using (cluster) where n.numbers = 1 and n.number = c.cluster_id)
            or exists (
                from numbered a
                join numbered b on a.cluster < b.cluster and a.number >> 1 = b.number >> 1 and a.number <> b.number
                where a.numbers = 1 and b.numbers = 1 and a.times >= 3 and b.times >= 3
            )
        ),
        0, 1
    ) as more
),
counted as (
    select n.cluster, n.number >> s.more as cluster_id, sum(n.times) as times
    from numbered n
    cross join shift s
    group by all
)
select n.cluster, coalesce(max(n.cluster_id), max(c.cluster_id)) as cluster_id
from named n
left join (select cluster, arg_max(cluster_id, times) as cluster_id from counted group by cluster) c using (cluster)
where n.cluster <> ''
group by n.cluster
order by n.cluster;
