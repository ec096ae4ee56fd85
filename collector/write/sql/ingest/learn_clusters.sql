-- Whose nodes the names without a cluster are.
insert or ignore into bare_nodes
select distinct bare_name(flow, node_name) as node, own_cluster(flow) as cluster
from parsed_lines
where node <> '' and cluster is not null;
