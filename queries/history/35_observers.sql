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
    with nameless as (
        select rowid as row, node, own_cluster_of(source_id, source_cluster, destination_id, destination_cluster) as owner
        from flows
        where cluster = 'default' and node <> ''
    ),
    owned as (
        select node, any_value(owner) as owner from nameless where owner is not null group by node having count(distinct owner) = 1
    )
    select n.row, coalesce(n.owner, o.owner) as cluster
    from nameless n
    left join owned o using (node)
    where coalesce(n.owner, o.owner) is not null
) as told
where flows.rowid = told.row;

-- Reserved identities that only such a node told of.
delete from identities where cluster = 'default' and not exists (from flows where cluster = 'default');
