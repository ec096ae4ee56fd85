-- node_ranges from nodes.
delete from node_ranges;
insert into node_ranges by name
select distinct cluster, node, contains(cidr, ':') as ipv6, address_number(split_part(cidr, '/', 1)) as first, last_number(first, cidr) as last
from (select cluster, node, unnest(pod_cidrs) as cidr from nodes)
where regexp_full_match(cidr, '[0-9a-fA-F.:]+/\d{1,3}') and last is not null;
