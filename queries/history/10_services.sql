-- services from the states of Service objects: a row is a period in which nothing that counts changed.
delete from services;
insert into services by name
with states as (
    select * from object_periods where kind = 'Service' and not deleted
),
facts as (
    select
        cluster, namespace, name as service,
        (state ->> 'global')::boolean as "global",
        (state ->> 'shared')::boolean as shared,
        case when state ->> 'affinity' in ('local', 'remote') then state ->> 'affinity' when state ->> 'affinity' = 'none' then 'literal-none' else 'none' end as affinity,
        (state -> 'annotations')::map(varchar, varchar) as annotations,
        state ->> 'type' as type,
        (state -> 'addresses')::varchar[] as addresses,
        (state -> 'balancer_addresses')::varchar[] as balancer_addresses,
        (state -> 'ports')::struct(name varchar, protocol varchar, port uinteger, node_port uinteger)[] as ports,
        nullif(state ->> 'session_affinity', '') as session_affinity,
        nullif(state ->> 'internal_traffic_policy', '') as internal_traffic_policy,
        coalesce(state ->> 'traffic_distribution', '') as traffic_distribution,
        state, valid_from, valid_to, known_from
    from states
),
stretches as (
    select
        *,
        count(*) filter (changed) over (partition by cluster, namespace, service order by valid_from) as stretch
    from (
        select *, (state, valid_from) is distinct from (lag(state) over object, lag(valid_to) over object) as changed
        from facts
        window object as (partition by cluster, namespace, service order by valid_from)
    )
)
select
    cluster, namespace, service,
    any_value("global") as "global", any_value(shared) as shared, any_value(affinity) as affinity,
    any_value(annotations) as annotations, any_value(type) as type, any_value(addresses) as addresses,
    any_value(balancer_addresses) as balancer_addresses, any_value(ports) as ports,
    any_value(session_affinity) as session_affinity, any_value(internal_traffic_policy) as internal_traffic_policy,
    any_value(traffic_distribution) as traffic_distribution,
    min(valid_from) as valid_from, if(bool_or(valid_to is null), null, max(valid_to)) as valid_to, arg_min(known_from, valid_from) as known_from
from stretches
group by cluster, namespace, service, stretch
order by all;
