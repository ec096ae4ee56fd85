-- Labels and workload of each identity, once. Only the node of the endpoint itself names the workload.
insert into identities
with ends as (
    select
        source_identity as identity, identity_cluster(identity, source_cluster, cluster) as cluster, identity_node(identity, node) as node,
        source_namespace as namespace, source_workload as workload, source_labels as labels
    from {projected}
    union all
    select
        destination_identity as identity, identity_cluster(identity, destination_cluster, cluster) as cluster, identity_node(identity, node) as node,
        destination_namespace as namespace, destination_workload as workload, destination_labels as labels
    from {projected}
),
fresh as (
    select *
    from ends
    where identity is not null and len(labels) > 0
        and not exists (
            from identities i
            where i.identity = ends.identity and i.cluster = ends.cluster and i.node = ends.node and (i.workload is not null or ends.workload is null)
        )
)
select identity, cluster, node, max(namespace) as namespace, max(workload) as workload, max(labels) as labels
from fresh
group by all
on conflict do update set workload = excluded.workload;
