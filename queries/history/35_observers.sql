-- Nodes whose names came without a cluster (Hubble before 1.10, Retina, masked logs) stand under the default one until the
-- labels of their own endpoints name it. Where one name is a node's of several clusters, only flows with such an endpoint
-- can be told. What a fallback named keeps that name.
create or replace temp macro own_cluster_of(source_id, source_cluster, destination_id, destination_cluster) as
    nullif(case when source_id is not null then source_cluster when destination_id is not null then destination_cluster end, 'default');

update flows
set
    cluster = told.cluster,
    source_cluster = if(source_id is not null and source_cluster = 'default', told.cluster, source_cluster),
    destination_cluster = if(destination_id is not null and destination_cluster = 'default', told.cluster, destination_cluster)
from (
    select node, owner, coalesce(owner, if(count(owner) over same_name = 1, max(owner) over same_name, null)) as cluster
    from (
        select distinct node, own_cluster_of(source_id, source_cluster, destination_id, destination_cluster) as owner
        from flows
        where cluster = 'default' and node <> ''
    )
    window same_name as (partition by node)
) as told
where told.cluster is not null and flows.cluster = 'default' and flows.node = told.node
    and told.owner is not distinct from own_cluster_of(flows.source_id, flows.source_cluster, flows.destination_id, flows.destination_cluster);

-- Reserved identities that only such a node told of.
delete from identities where cluster = 'default' and not exists (from flows where cluster = 'default');
