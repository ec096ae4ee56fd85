-- nodes from the states of Node objects; CiliumNode adds the addresses that only Cilium knows (its router's).
-- pod_cidrs are the ranges that Cilium takes pod addresses from, by its IPAM mode (cilium-config, `ipam`): kubeadm, kind and
-- others fill Node.spec.podCIDRs also where Cilium never looks at it. Where a cloud gives addresses one by one, each is a
-- range of its own.
delete from nodes;
insert into nodes by name
with states as (
    select
        cluster, kind, name as node,
        (state -> 'addresses')::varchar[] as addresses, (state -> 'pod_cidrs')::varchar[] as pod_cidrs,
        coalesce((state -> 'pod_addresses')::varchar[], []) as pod_addresses,
        nullif(state ->> 'zone', '') as zone, nullif(state ->> 'region', '') as region,
        valid_from, valid_to, known_from
    from object_periods
    where kind in ('Node', 'CiliumNode') and not deleted
),
cilium as (
    select
        cluster, node, list_distinct(flatten(list(addresses))) as addresses, list_distinct(flatten(list(pod_cidrs))) as pod_cidrs,
        list_transform(list_distinct(flatten(list(pod_addresses))), lambda address: address || if(contains(address, ':'), '/128', '/32')) as pod_addresses
    from states
    where kind = 'CiliumNode'
    group by all
),
modes as (
    select cluster, arg_max(state ->> 'ipam', valid_from) as ipam
    from object_periods
    where kind = 'ConfigMap' and not deleted and (state ->> 'ipam') <> ''
    group by cluster
),
known as (
    select * from states where kind = 'Node'
    union all by name
    select * from states s where kind = 'CiliumNode' and not exists (from states n where n.kind = 'Node' and n.cluster = s.cluster and n.node = s.node)
),
facts as (
    select
        k.cluster, k.node,
        list_sort(list_distinct(list_concat(k.addresses, c.addresses))) as addresses,
        list_sort(case
            when m.ipam in ('eni', 'azure', 'alibabacloud', 'crd', 'delegated-plugin') then coalesce(c.pod_addresses, [])
            when m.ipam = 'kubernetes' then if(len(c.pod_cidrs) > 0, c.pod_cidrs, k.pod_cidrs)
            when len(c.pod_addresses) > 0 then c.pod_addresses
            when m.ipam is not null or exists (from cilium a where a.cluster = k.cluster) then coalesce(c.pod_cidrs, [])
            -- Nothing but Nodes is known: these ranges may be Cilium's (`used_ranges` looks at the addresses in use).
            else k.pod_cidrs
        end) as pod_cidrs,
        k.zone, k.region, k.valid_from, k.valid_to, k.known_from
    from known k
    left join cilium c using (cluster, node)
    left join modes m using (cluster)
),
stretches as (
    select *, count(*) filter (changed) over (partition by cluster, node order by valid_from) as stretch
    from (
        select
            *,
            (addresses, pod_cidrs, zone, region, valid_from)
                is distinct from (lag(addresses) over one, lag(pod_cidrs) over one, lag(zone) over one, lag(region) over one, lag(valid_to) over one) as changed
        from facts
        window one as (partition by cluster, node order by valid_from)
    )
)
select
    cluster, node, any_value(addresses) as addresses, any_value(pod_cidrs) as pod_cidrs, any_value(zone) as zone, any_value(region) as region,
    min(valid_from) as valid_from, if(bool_or(valid_to is null), null, max(valid_to)) as valid_to, arg_min(known_from, valid_from) as known_from
from stretches
group by cluster, node, stretch
order by all;
