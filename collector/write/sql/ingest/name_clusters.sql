-- Names without a cluster get the one that their own endpoints' labels say: an endpoint with an ID is the observing node's own.
-- Where one name is a node's of several clusters, only flows with such an endpoint can be told.
update parsed_lines
set
    node_name = if(parsed_lines.node_name in ('', named.node), named.cluster || '/' || named.node, parsed_lines.node_name),
    flow = if(flow is null, null, struct_update(flow, node_name := if(flow.node_name in ('', named.node), named.cluster || '/' || named.node, flow.node_name)))
from (
    with nodes as (
        select position, bare_name(flow, node_name) as node, own_cluster(flow) as cluster
        from parsed_lines
        where bare_name(flow, node_name) <> ''
    ),
    only_one as (
        select node, any_value(cluster) as cluster from bare_nodes group by node having count(*) = 1
    )
    select n.position, n.node, coalesce(n.cluster, o.cluster) as cluster
    from nodes n
    left join only_one o using (node)
    where coalesce(n.cluster, o.cluster) is not null
) as named
where parsed_lines.position = named.position;
