-- What held for clients of one cluster: a row is a stretch in which neither the setting nor any backend that counts changed.
-- local_backends and remote_backends are those that could be used; hidden_backends are active elsewhere under the same
-- name, but not offered (not global there, or not shared).
delete from service_periods;
insert into service_periods by name
with changes as (
    select namespace, service, valid_from as changed_at from services
    union select namespace, service, valid_to from services where valid_to is not null
    union select namespace, service, valid_from from backends
    union select namespace, service, valid_to from backends where valid_to is not null
),
stretches as (
    select
        s.cluster, s.namespace, s.service, c.changed_at as valid_from, s.valid_to as service_to,
        s."global", s.shared, s.affinity, s.session_affinity, s.internal_traffic_policy, s.known_from
    from changes c
    join services s
        on s.namespace = c.namespace and s.service = c.service
        and s.valid_from <= c.changed_at and (s.valid_to is null or s.valid_to > c.changed_at)
),
candidates as (
    select
        t.cluster, t.namespace, t.service, t.valid_from, b.address, b.known_from,
        case
            when b.cluster = t.cluster then 'local'
            when t."global" and r."global" and r.shared then 'remote'
            else 'hidden'
        end as side
    from stretches t
    join backends b
        on b.namespace = t.namespace and b.service = t.service and b.ready and not b.terminating
        and b.valid_from <= t.valid_from and (b.valid_to is null or b.valid_to > t.valid_from)
    left join services r
        on r.cluster = b.cluster and r.namespace = b.namespace and r.service = b.service
        and r.valid_from <= t.valid_from and (r.valid_to is null or r.valid_to > t.valid_from)
),
counted as (
    select
        cluster, namespace, service, valid_from,
        count(distinct address) filter (side = 'local') as local_backends,
        count(distinct address) filter (side = 'remote') as remote_backends,
        count(distinct address) filter (side = 'hidden') as hidden_backends,
        list_sort(list(distinct side || ' ' || address)) as backend_set,
        if(bool_or(known_from is null), null, max(known_from)) as backends_known_from,
        count(*) as backend_rows
    from candidates
    group by all
),
states as (
    select
        t.*,
        coalesce(c.local_backends, 0) as local_backends, coalesce(c.remote_backends, 0) as remote_backends,
        coalesce(c.hidden_backends, 0) as hidden_backends, coalesce(c.backend_set, []) as backend_set,
        if(c.backend_rows is null, t.known_from, if(t.known_from is null or c.backends_known_from is null, null, greatest(t.known_from, c.backends_known_from))) as state_known_from,
        coalesce(lead(t.valid_from) over (partition by t.cluster, t.namespace, t.service, t.service_to order by t.valid_from), t.service_to) as stretch_to
    from stretches t
    left join counted c using (cluster, namespace, service, valid_from)
),
turns as (
    select *, count(*) filter (changed) over (partition by cluster, namespace, service order by valid_from) as turn
    from (
        select
            *,
            ("global", shared, affinity, session_affinity, internal_traffic_policy, backend_set, valid_from) is distinct from (
                lag("global") over one, lag(shared) over one, lag(affinity) over one, lag(session_affinity) over one,
                lag(internal_traffic_policy) over one, lag(backend_set) over one, lag(stretch_to) over one
            ) as changed
        from states
        window one as (partition by cluster, namespace, service order by valid_from)
    )
),
periods as (
    select
        cluster, namespace, service,
        any_value(if(not "global", 'not-global', affinity)) as setting,
        any_value(shared) as shared, any_value(session_affinity) as session_affinity, any_value(internal_traffic_policy) as internal_traffic_policy,
        any_value(local_backends)::uinteger as local_backends, any_value(remote_backends)::uinteger as remote_backends,
        any_value(hidden_backends)::uinteger as hidden_backends,
        min(valid_from) as valid_from, if(bool_or(stretch_to is null), null, max(stretch_to)) as valid_to,
        arg_min(state_known_from, valid_from) as known_from
    from turns
    group by cluster, namespace, service, turn
),
settings as (
    select *, count(*) filter (changed) over (partition by cluster, namespace, service order by valid_from) as run
    from (
        select *, (setting, shared, valid_from) is distinct from (lag(setting) over one, lag(shared) over one, lag(valid_to) over one) as changed
        from periods
        window one as (partition by cluster, namespace, service order by valid_from)
    )
)
select
    * exclude (changed, run),
    min(valid_from) over run as setting_from,
    if(bool_or(valid_to is null) over run, null, max(valid_to) over run) as setting_to
from settings
window run as (partition by cluster, namespace, service, run)
order by cluster, namespace, service, valid_from;
