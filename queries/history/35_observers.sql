-- Nodes whose names came without a cluster (Hubble before 1.10, Retina, masked logs) stand under the default one until the
-- labels of their own endpoints name it. What a fallback named keeps that name.
update flows
set
    cluster = named.cluster,
    source_cluster = if(source_id is not null and source_cluster = 'default', named.cluster, source_cluster),
    destination_cluster = if(destination_id is not null and destination_cluster = 'default', named.cluster, destination_cluster)
from (
    select node, any_value(owner) as cluster
    from (
        select node, source_cluster as owner from flows where cluster = 'default' and source_id is not null and source_cluster <> 'default'
        union
        select node, destination_cluster from flows where cluster = 'default' and destination_id is not null and destination_cluster <> 'default'
    )
    where node <> ''
    group by node
    having count(distinct owner) = 1
) as named
where flows.cluster = 'default' and flows.node = named.node;

-- Reserved identities that only such a node told of.
delete from identities where cluster = 'default' and not exists (from flows where cluster = 'default');
