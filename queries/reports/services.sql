-- What is known of each global service: its setting and backends in each cluster, and since when?
-- One row per cluster, service and state of its Service object, for every service that is global in some cluster or was
-- called across clusters in the window. Null is not known; 0 backends are known to be none.
--   since, until:     stretch in which the state holds; until is null where it holds still. Not of the window
--   known_from:       from then on it was watched; before, and where it is null, it is assumed from a later look
--   global, shared, affinity:  as Cilium takes them; annotations: as they are written
--   backends_active:  of those known at the stretch's end (or the window's), ready and not terminating
-- Nothing can be against a rule here: a row is ok where it is known, else insufficient.
create or replace macro report_services(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, max_unproved := 0.01,
    only_namespace := null::varchar, only_service := null::varchar
) as table
with
bounds as materialized (from window_bounds(since, until, whole)),
subjects as materialized (
    select namespace, service
    from services
    cross join bounds
    where "global" and valid_from < end_time and (valid_to is null or valid_to > first_time)
        and (only_namespace is null or namespace = only_namespace) and (only_service is null or service = only_service)
    union
    select namespace, service
    from hops_between(window_since(since, whole), window_until(since, until, whole), only_namespace, only_service)
    where passes > 0 and service <> ''
),
-- Every cluster that anything names, and which of its objects were seen at all.
mesh as materialized (
    select
        cluster, bool_or(kind = 'Service') as has_services, bool_or(kind = 'EndpointSlice') as has_backends,
        min(known_from) filter (kind = 'Service') as listed_from, max(known_from) as last_seen
    from (
        select cluster, kind, known_from from kube_states
        union all
        select cluster, '', null from clusters
        union all
        select cluster, '', null from watched_nodes(window_since(since, whole), window_until(since, until, whole))
    )
    where cluster <> ''
    group by cluster
),
-- Until when a live collection watched the objects: while it runs it notes that every 20 s. Recordings do not say it: their
-- watch is taken to have lasted as long as their flows.
watched as materialized (
    select
        m.cluster,
        moved(coalesce(w.until, m.last_seen), if(exists (from collections where kind = 'collect' and state = 'running'), 30, 0)) as until
    from mesh m
    left join watches w using (cluster)
    where exists (from collections c cross join bounds b where c.kind = 'collect' and c.first_flow < b.end_time and c.last_flow >= b.first_time)
),
states as materialized (
    select
        m.cluster, u.namespace, u.service, m.has_services, m.has_backends, s.service is not null as present,
        s."global", s.shared, s.affinity, s.annotations, s.ports, s.valid_from, s.valid_to,
        if(present, s.known_from, m.listed_from) as known_from,
        greatest(coalesce(s.valid_from, b.first_time), b.first_time) as first_at, least(coalesce(s.valid_to, b.end_time), b.end_time) as end_at,
        w.until as watched_until
    from subjects u
    cross join mesh m
    cross join bounds b
    left join services s
        on s.cluster = m.cluster and s.namespace = u.namespace and s.service = u.service
        and s.valid_from < b.end_time and (s.valid_to is null or s.valid_to > b.first_time)
    left join watched w on w.cluster = m.cluster
),
counted as materialized (
    select
        t.cluster, t.namespace, t.service, t.first_at,
        count(distinct b.address) filter (b.valid_to is null or b.valid_to >= t.end_at) as known,
        count(distinct b.address) filter ((b.valid_to is null or b.valid_to >= t.end_at) and b.ready and not b.terminating) as active,
        max(epoch_ns(least(coalesce(b.known_from, t.end_at), t.end_at)) - epoch_ns(greatest(b.valid_from, t.first_at))) / 1e9 as backends_assumed,
        max(b.known_from) as backends_known_from
    from states t
    join backends b
        on b.cluster = t.cluster and b.namespace = t.namespace and b.service = t.service
        and b.valid_from < t.end_at and (b.valid_to is null or b.valid_to > t.first_at)
    group by all
),
-- Backends that give no arrival: what calls them shows at the clients' side only.
unseen as materialized (
    select
        cluster, namespace, service, count(*) as backends,
        array_to_string(list_sort(list(format('{} ({})', address, words)))[:3], ', ') || if(count(*) > 3, format(' and {} more', count(*) - 3), '') as names
    from (
        select distinct cluster, namespace, service, address, unseen_words(unseen) as words
        from unseen_backends(window_since(since, whole), window_until(since, until, whole))
    )
    group by all
),
judged as (
    select
        t.*,
        if(has_backends, coalesce(c.active, 0), null) as backends_active, if(has_backends, coalesce(c.known, 0), null) as backends_known,
        greatest(epoch_ns(end_at) - epoch_ns(first_at), 1) / 1e9 as seconds,
        greatest((epoch_ns(least(coalesce(t.known_from, end_at), end_at)) - epoch_ns(first_at)) / 1e9, backends_assumed) as assumed_seconds,
        if(watched_until < end_at, epoch_ns(end_at) - epoch_ns(greatest(watched_until, first_at)), 0) / 1e9 as unwatched_seconds,
        case
            when not present then format('no such service in {}', t.cluster)
            else concat_ws(
                '; ',
                if("global", concat_ws(', ', 'global', if(shared, 'shared', 'not shared'), 'affinity ' || affinity), 'not global'),
                format('{} of {} backends active', backends_active, backends_known),
                format('{} give no arrival: {}', n.backends, n.names)
            )
        end as state,
        case
            when not has_services then {'cause': 'unknown-objects', 'reason': format('no Service of {} was seen', t.cluster)}
            when not has_backends then {'cause': 'unknown-backends', 'reason': format('{}; its backends are not known: no EndpointSlice of {} was seen', state, t.cluster)}
            when assumed_seconds > max_unproved * seconds
                then {'cause': 'assumed-state', 'reason': format('{}; known only from a look taken afterwards{}', state, coalesce(strftime(greatest(t.known_from, backends_known_from), ', %Y-%m-%d %H:%M:%SZ'), ''))}
            when unwatched_seconds > max_unproved * seconds
                then {'cause': 'watch-ended', 'reason': format('{}; watched only until {}', state, strftime(watched_until, '%Y-%m-%d %H:%M:%SZ'))}
            when not present then {'cause': 'absent', 'reason': state}
            else {'cause': '', 'reason': state}
        end as finding
    from states t
    left join counted c using (cluster, namespace, service, first_at)
    left join unseen n on n.cluster = t.cluster and n.namespace = t.namespace and n.service = t.service
)
select
    cluster, namespace, service, "global", shared, affinity,
    list_sort(list_transform(map_entries(annotations), lambda entry: entry.key || ': ' || entry.value)) as annotations,
    list_transform(ports, lambda port: concat(port.port, ':' || port.node_port, '/', port.protocol)) as ports,
    backends_active, backends_known, valid_from as since, valid_to as until, known_from,
    c.verdict, finding.cause as cause, finding.reason as reason
from judged
left join causes_services() c on c.cause = finding.cause
order by namespace, service, cluster, first_at;

-- What each cause in report_services means, and what to do about it.
create or replace macro causes_services() as table
from (values
    ('', 'ok', 'the Service object and its backends are known for as long as the state held in the window', ''),
    ('absent', 'ok', 'the cluster''s Services are known, and this one is not among them', 'if the service is to be global there, make a Service of the same name and namespace with service.cilium.io/global: "true"'),
    ('unknown-objects', 'insufficient', 'no Service of the cluster was seen; whether it has this one is not known', 'collect with the Kubernetes API of that cluster (--context), or import its Services and EndpointSlices'),
    ('unknown-backends', 'insufficient', 'Services of the cluster were seen but no EndpointSlice; that is not to have no backends', 'let the collecting user list and watch endpointslices (docs/rbac.yaml), or import them beside the Services'),
    ('assumed-state', 'insufficient', 'what was found later is taken to have held before, for more of the state''s time in the window than may be unproved', 'collect with the Kubernetes API watched (--context), or import watch logs, from before the traffic on; or ask a window that begins later (--since)'),
    ('watch-ended', 'insufficient', 'the Kubernetes API was not watched to the end, for more of the state''s time than may be unproved: a change after that was not seen', 'bring the Kubernetes API back and collect again, or ask a window that ends earlier (--until)')
) as causes(cause, verdict, meaning, cure);

-- What report_services rests on: the states of Service objects and of backends, with the times they held.
create or replace macro evidence_services(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, only_namespace := null::varchar, only_service := null::varchar
) as table
with
subjects as (
    select distinct namespace, service
    from report_services(since := since, until := until, whole := whole, only_namespace := only_namespace, only_service := only_service)
)
select
    cluster, namespace, service, 'service' as class,
    concat_ws(', ', if("global", 'global', 'not global'), if("global", if(shared, 'shared', 'not shared'), null), if("global", 'affinity ' || affinity, null)) as detail,
    valid_from as time, valid_to as until, known_from
from services
semi join subjects using (namespace, service)
where valid_from < window_until(since, until, whole) and (valid_to is null or valid_to > window_since(since, whole))
union all
select
    cluster, namespace, service, 'backend',
    concat_ws(' ', concat(address, ':' || port, '/', protocol), 'on ' || node, if(terminating, 'terminating', if(ready, 'ready', 'not ready'))),
    valid_from, valid_to, known_from
from backends
semi join subjects using (namespace, service)
where valid_from < window_until(since, until, whole) and (valid_to is null or valid_to > window_since(since, whole))
order by namespace, service, cluster, class desc, time, detail;
