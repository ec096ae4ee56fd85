-- backends from the states of EndpointSlices: a row is a period in which one address and port of a service did not change.
delete from backends;
insert into backends by name
with slices as (
    select
        cluster, namespace, name as slice, state ->> 'service' as service,
        unnest((state -> 'endpoints')::struct(addresses varchar[], node varchar, pod varchar, ready boolean, serving boolean, terminating boolean)[]) as endpoint,
        (state -> 'ports')::struct(name varchar, protocol varchar, port uinteger)[] as ports,
        valid_from, valid_to, known_from
    from object_periods
    where kind = 'EndpointSlice' and not deleted
),
endpoints as (
    select * exclude (ports), unnest(ports) as port
    from (
        select cluster, namespace, slice, service, endpoint, unnest(endpoint.addresses) as address, ports, valid_from, valid_to, known_from
        from slices
    )
),
stretches as (
    select *, count(*) filter (changed) over (partition by cluster, namespace, service, slice, address, port order by valid_from) as stretch
    from (
        select *, (endpoint, valid_from) is distinct from (lag(endpoint) over one, lag(valid_to) over one) as changed
        from endpoints
        window one as (partition by cluster, namespace, service, slice, address, port order by valid_from)
    )
)
select distinct
    cluster, namespace, service, address,
    port.port as port, coalesce(port.name, '') as port_name, coalesce(port.protocol, 'TCP') as protocol,
    nullif(any_value(endpoint.node), '') as node, nullif(any_value(endpoint.pod), '') as pod,
    any_value(endpoint.ready) as ready, any_value(endpoint.serving) as serving, any_value(endpoint.terminating) as terminating,
    min(valid_from) as valid_from, if(bool_or(valid_to is null), null, max(valid_to)) as valid_to, arg_min(known_from, valid_from) as known_from
from stretches
group by cluster, namespace, service, slice, address, port, stretch
order by all;
