-- Whose address it is: nodes, service frontends, pod ranges. Addresses are given to others in time: what flows tell of one
-- counts in the hour in which they tell it and in those beside it.

create or replace macro address_family(address) as if(contains(address, ':'), 'IPv6', 'IPv4');

create or replace macro any_address(address) as coalesce(address in ('::', '0.0.0.0'), false);

-- The groups of a part of an IPv6 address.
create or replace macro groups_of(text) as if(text = '', []::varchar[], string_split(text, ':'));

-- The eight groups of an IPv6 address, with those that :: leaves out.
create or replace macro ipv6_groups(address) as
    list_concat(
        groups_of(split_part(address, '::', 1)),
        list_concat(
            if(contains(address, '::'), list_resize([]::varchar[], greatest(0, 8 - len(groups_of(split_part(address, '::', 1))) - len(groups_of(split_part(address, '::', 2)))), '0'), []::varchar[]),
            groups_of(split_part(address, '::', 2))
        )
    );

-- An address as a number that ranges are compared by, IPv4 as IPv6 maps it (::ffff:0:0/96); null for what is no address.
create or replace macro address_number(address) as
    case
        when regexp_full_match(address, '\d{1,3}(\.\d{1,3}){3}')
            then list_reduce(string_split(address, '.')::uhugeint[], lambda number, byte: number * 256 + byte) + 281470681743360::uhugeint
        when regexp_full_match(address, '[0-9a-fA-F]{0,4}(:[0-9a-fA-F]{0,4}){2,8}') and len(ipv6_groups(address)) = 8
            then list_reduce(
                list_transform(ipv6_groups(address), lambda digits: try_cast('0x' || digits as usmallint)::uhugeint), lambda number, group_: number * 65536 + group_
            )
    end;

create or replace macro host_bits(cidr) as if(contains(cidr, ':'), 128, 32) - try_cast(split_part(cidr, '/', 2) as int);

-- The number of a range's last address by that of any in it; null where its prefix has no sensible length.
create or replace macro last_number(first, cidr) as
    first | ((1::uhugeint << if(host_bits(cidr) between 0 and 127, host_bits(cidr), null)::uhugeint) - 1);

-- Addresses of nodes from Kubernetes and from what Relays say. One that several nodes share names none of them.
create or replace view node_addresses as
with known as (
    select cluster, node, unnest(addresses) as address from nodes
    union
    select cluster, node, regexp_replace(address, '^\[?(.*?)\]?:\d+$', '\1') as address from relay_nodes where address <> ''
)
select any_value(cluster) as cluster, any_value(node) as node, address
from known
group by address
having count(distinct (cluster, node)) = 1;

-- Where a service can be called: its own address, the addresses of its load balancer, and each node of its cluster.
create or replace view frontends as
with ports as (
    select cluster, namespace, service, addresses, balancer_addresses, unnest(ports) as port, valid_from, valid_to
    from services
),
all_periods as (
    select 'service' as door, cluster, namespace, service, unnest(addresses) as address, port.port as port, port.protocol as protocol, valid_from, valid_to
    from ports
    union all
    select 'loadbalancer', cluster, namespace, service, unnest(balancer_addresses), port.port, port.protocol, valid_from, valid_to
    from ports
    union all
    select 'nodeport', p.cluster, p.namespace, p.service, n.address, p.port.node_port, p.port.protocol, p.valid_from, p.valid_to
    from ports p
    join node_addresses n on n.cluster = p.cluster
    where p.port.node_port is not null
)
select
    door, cluster, namespace, service, address, port, protocol,
    min(valid_from) as valid_from, max(coalesce(valid_to, timestamp_ns '2262-01-01')) as valid_end
from all_periods
group by all;

-- The ranges that clusters take pod addresses from.
create or replace view pod_ranges as
select distinct cluster, ipv6, first, last from node_ranges;

-- Frontends of services on nodes and balancers.
create or replace view doors as
from frontends where door in ('nodeport', 'loadbalancer');

-- The frontends that clients of a cluster can call: the services of their own, and the doors of all.
create or replace view callable_frontends as
select cluster as client_cluster, * from frontends where door = 'service'
union all
select c.cluster, d.* from doors d cross join clusters c;

-- service_periods with an end for each, so that joins on it stay joins of ranges.
create or replace view settings_in_force as
select *, coalesce(valid_to, timestamp_ns '2262-01-01') as valid_end from service_periods;

-- Services that anything tells of: Kubernetes, or a flow that names one.
create or replace view known_services as
select namespace, service from services
union
select split_part(destination_service, '/', 1), split_part(destination_service, '/', 2) from flows where destination_service is not null
union
select split_part(destination_service, '/', 1), split_part(destination_service, '/', 2) from events where destination_service is not null
order by all;

-- Which node an address belongs to, hour by hour: what is known of nodes, and what they send under their own identity.
-- Parameters are names of relations: addresses_known, and the hours that matter (hour).
create or replace macro address_owners(known, hours) as table
select hour, address, any_value(cluster) as cluster, any_value(node) as node
from (
    select h.hour, n.address, n.cluster, n.node from node_addresses n cross join query_table(hours) h
    union
    select hour, address, cluster, node from query_table(known) where kind = 'host'
)
group by hour, address
having count(distinct (cluster, node)) = 1;

-- Addresses that pods of a cluster have: as flows name them, else EndpointSlices. Pods on nodes without agent are not
-- `managed`: Cilium gave them no address. `addresses` is the name of a relation (hour, address, cluster), cluster null where
-- it is not told.
create or replace macro used_addresses(addresses) as table
select hour, cluster, address, address_number(address) as number, contains(address, ':') as ipv6, bool_or(managed) as managed
from (
    select hour, cluster, address, true as managed from query_table(addresses) where cluster <> ''
    union
    -- Without a node it may be an address of anybody that someone wrote down.
    select h.hour, b.cluster, b.address, (b.cluster, b.node) not in (select (cluster, node) from nodes_without_agent)
    from (select distinct cluster, node, address from backends where node is not null) b
    cross join (select distinct hour from query_table(addresses)) h
    where not exists (from query_table(addresses) a where a.hour = h.hour and a.address = b.address and a.cluster <> '')
)
where address not in (select address from node_addresses)
group by hour, cluster, address;

-- The ranges of pod_ranges that clusters really use: where pods of a cluster are known, and all of them have addresses
-- outside its ranges, the ranges are only declared. `used` is the name of a relation of used_addresses.
create or replace macro used_ranges(used) as table
with judged as materialized (
    select u.hour, r.cluster, r.ipv6, bool_or(u.number between r.first and r.last) as taken
    from pod_ranges r
    join query_table(used) u on u.cluster = r.cluster and u.ipv6 = r.ipv6 and u.managed
    group by all
)
select h.hour, r.*
from (select distinct hour from query_table(used)) h
cross join pod_ranges r
left join judged j on j.hour = h.hour and j.cluster = r.cluster and j.ipv6 = r.ipv6
where j.taken is not false;

-- Where ranges of two clusters overlap, each way round: an address in it does not tell whose it is. `ranges` is the name
-- of a relation of used_ranges.
create or replace macro overlaps_of(ranges) as table
select a.cluster, b.cluster as other, greatest(a.first, b.first) as first, least(a.last, b.last) as last
from query_table(ranges) a
join query_table(ranges) b on a.hour = b.hour and a.first <= b.last and b.first <= a.last
where a.cluster <> b.cluster;

-- Whose pods have an address: as flows and EndpointSlices tell, else by the one cluster whose range it is in; identities
-- can be missing where these are not. The parameter as of used_addresses.
create or replace macro pod_addresses(addresses) as table
with used as materialized (from used_addresses(addresses)),
ranges as materialized (from used_ranges('used')),
told as materialized (
    select hour, address, any_value(cluster) as cluster, count(distinct cluster) as clusters from used group by hour, address
)
select hour, address, cluster from told where clusters = 1
union all
select a.hour, a.address, any_value(r.cluster)
from (select distinct hour, address, address_number(address) as number from query_table(addresses)) a
anti join told using (hour, address)
join ranges r on r.hour = a.hour and a.number between r.first and r.last
group by a.hour, a.address
having count(distinct r.cluster) = 1;
