-- Every connection with the way it took.
--   passes:   how often it passed the border between clusters; null where the client's cluster is unknown
--   class:    stayed | crossed | avoidable | trombone | hairpin | dropped | unknown
--   assumed:  the setting in force is known only from a later look
--   misled:   asked for another cluster's NodePort, answered by its own (cilium/cilium#24692)
create or replace macro hops_between(since, until, only_namespace, only_service) as table
with
seen as materialized (
    select * from connections_between(since, until) where outcome <> 'cut-off' and server_cluster is not null
),
-- Calls of pods to outside addresses that also call in, and what came from there: paired by nearness in time.
callers as materialized (
    select attempt, client_address, client_ns from seen where client_kind = 'outside' and outcome in ('arrived', 'refused')
),
outward as materialized (
    select row_number() over (order by d.ns, d.uuid) as call, d.*
    from departures(moved(since, -2), until) d
    where d.destination_cluster is null and d.destination in (select client_address from callers)
),
line as materialized (
    select attempt as id, true as is_attempt, client_ns as ns, client_address as key from callers
    union all
    select call, false, ns, destination from outward
),
pairs as materialized (from paired_calls('line')),
-- Nothing but time ties these ends, and others call through the same balancer. Of calls that cross each other no two ends
-- are further apart than two calls take.
turned as materialized (
    select p.attempt, o.source_cluster, o.source_namespace, o.source_pod
    from pairs p
    join outward o using (call)
    qualify sure or abs(later) <= 2 * max(abs(later)) filter (sure) over (partition by o.destination)
),
-- The one service that a backend belongs to, for doors that do not name one.
only_one as materialized (
    select address, coalesce(port, 0) as port, protocol, any_value(namespace) as namespace, any_value(service) as service
    from backends
    where valid_from < until and (valid_to is null or valid_to > since)
    group by all
    having count(distinct (namespace, service)) = 1
),
told as materialized (
    select
        s.* exclude (door),
        t.attempt is not null as hairpin,
        if(t.attempt is not null, 'loadbalancer', s.door) as door,
        coalesce(t.source_cluster, s.client_cluster) as source_cluster,
        case when s.door = 'pod' then '' else coalesce(s.door_namespace, o.namespace, '') end as namespace,
        case when s.door = 'pod' then '' else coalesce(s.door_service, o.service, '') end as service
    from seen s
    left join turned t using (attempt)
    left join only_one o on o.address = s.server_address and o.port = coalesce(s.server_port, 0) and o.protocol = s.protocol
),
-- States in force around the moment of the call, as in service_calls_between.
around as materialized (
    select t.attempt, count(distinct p.valid_from) = 1 as settled,
        -- Where no slice was seen nothing is known of backends.
        if(bool_or(list_contains(p.unknown_backends, p.cluster)), null, min(p.local_backends)) as local_backends,
        arg_max(p.setting, p.valid_from) as setting,
        bool_and(coalesce(p.known_from <= t.time, false)) as watched
    from told t
    join settings_in_force p
        on p.cluster = t.source_cluster and p.namespace = t.namespace and p.service = t.service
        and p.protocol = t.protocol and p.family = address_family(t.server_address)
        and (p.port = t.door_port or t.door_port is null and (p.frontends = 1 or exists (
            from backends b
            where b.namespace = t.namespace and b.service = t.service and (b.port_name = p.port_name or b.port_name = '' or p.port_name = '') and b.protocol = p.protocol
                and b.address = t.server_address and b.port = t.server_port
        )))
        and p.valid_from <= moved(t.time, 0.2 + (select clock_skew(since, until))) and p.valid_end > moved(t.time, -2 - (select clock_skew(since, until)))
    group by all
),
placed as (
    select
        t.*, p.setting, p.local_backends, coalesce(p.settled, false) as settled, not coalesce(p.watched, false) as assumed,
        t.source_cluster not in ('', 'unknown') and t.ingress_cluster is not null and t.ingress_cluster <> t.source_cluster as through_other,
        case
            when t.source_cluster = '' then 0
            when t.source_cluster = 'unknown' then null
            when through_other then 1 + (t.ingress_cluster <> t.server_cluster)::int
            else (t.source_cluster <> t.server_cluster)::int
        end as passes
    from told t
    left join around p using (attempt)
    where (only_namespace is null or t.namespace = only_namespace) and (only_service is null or t.service = only_service)
)
select
    *,
    server_cluster as destination_cluster,
    coalesce(passes, 0) > 0 and service <> '' and coalesce(local_backends, 0) > 0 as avoidable,
    through_other and source_cluster = server_cluster as trombone,
    door = 'nodeport' and aimed_cluster <> client_cluster and server_cluster = client_cluster as misled,
    case
        when outcome = 'refused' then 'dropped'
        when trombone then 'trombone'
        when hairpin then 'hairpin'
        when avoidable then 'avoidable'
        when passes is null then 'unknown'
        when passes > 0 then 'crossed'
        else 'stayed'
    end as class
from placed;
