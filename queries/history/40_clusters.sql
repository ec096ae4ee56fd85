-- clusters: names from everything that carries one, numbers from cilium-config or from identities (number of a cluster << 16).
delete from clusters;
insert into clusters
with named as (
    select cluster, null::uinteger as cluster_id from identities where cluster <> ''
    union select cluster, null from nodes
    union select cluster, null from services
    union select cluster, null from relay_nodes
    union select cluster, try_cast(state ->> 'cluster_id' as uinteger) from kube_states where kind = 'ConfigMap'
),
numbered as (
    select cluster, identity >> 16 as cluster_id, count(*) as times
    from identities
    where identity between 65536 and 16777215
    group by all
)
select cluster, coalesce(max(n.cluster_id), (select arg_max(i.cluster_id, i.times) from numbered i where i.cluster = n.cluster)) as cluster_id
from named n
where cluster <> ''
group by cluster
order by cluster;
