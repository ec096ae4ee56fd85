-- Does each client cluster reach local and remote backends as its setting says?
-- One row per client cluster, service and period of one setting. `connections` arrived at a backend, from pods of that
-- cluster, through the service (proved, or by an unknown door); attempts that were refused are in `dropped` only.
--   since, until:  the window (default: the last run; whole := true for everything)
--   max_unproved:  the share of lost, missing or one-sided events above which nothing is said
-- A setting that picks one side is broken by a single proved call to the other one while the right one had backends. A
-- setting that leaves the choice is tested: exact, two-sided, at 1e-4 shared among the rows, and off by 2 points or more.
create or replace macro report_affinity(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, max_unproved := 0.01,
    only_namespace := null::varchar, only_service := null::varchar
) as table
with
bounds as materialized (
    select window_since(since, whole) as first_time, window_until(since, until, whole) as end_time
),
calls as materialized (
    select *,
        not rivals and settled and outcome in ('arrived', 'refused') and wants_local is null and expected_local_share is not null as chosen,
        not rivals and settled and outcome = 'arrived' and wants_local is not null as bound
    from service_calls_between(window_since(since, whole), window_until(since, until, whole))
    where (only_namespace is null or namespace = only_namespace) and (only_service is null or service = only_service)
),
coverage as materialized (
    select
        coalesce((select sum(events) from losses_between(window_since(since, whole), window_until(since, until, whole))), 0) as lost,
        coalesce((select sum(seconds) from gaps_between(window_since(since, whole), window_until(since, until, whole))), 0) as gap_seconds,
        (select greatest(1, max(ns) - min(ns)) / 1e9 from calls) as seconds
),
watched as materialized (
    from watched_nodes(window_since(since, whole), window_until(since, until, whole))
),
blind_clients as materialized (
    select cluster, string_agg(cluster || '/' || node, ', ' order by node) as nodes from watched where not watched group by cluster
),
blind_backends as materialized (
    select b.namespace, b.service, string_agg(distinct b.cluster || '/' || b.node, ', ') as nodes
    from backends b
    join watched w on w.cluster = b.cluster and w.node = b.node
    where not w.watched
    group by all
),
-- Clusters that were seen and of whose services nothing is known.
unknown_clusters as materialized (
    select string_agg(distinct cluster, ', ' order by cluster) as names
    from watched
    where cluster <> '' and cluster not in (select cluster from services)
),
-- cilium/cilium#46623: the literal value none drops every remote backend.
bug_46623 as materialized (
    select distinct cluster
    from node_versions
    where version_rank(version) between version_rank('1.18.10') and version_rank('1.19.5')
),
counted as materialized (
    select
        client_cluster, namespace, service, setting, any_value(shared) as shared, setting_from, setting_to,
        arg_max(local_backends, ns) as backends_local, arg_max(remote_backends, ns) as backends_remote,
        avg(expected_local_share) filter (outcome = 'arrived' and not rivals) as expected_local_share,
        count(*) filter (outcome = 'arrived' and not rivals) as connections,
        count(*) filter (outcome = 'arrived' and not rivals and is_local) as local,
        count(*) filter (outcome = 'arrived' and not rivals and not is_local) as remote,
        count(*) filter (class = 'fallback') as fallback,
        count(*) filter (broken) as violations,
        count(*) filter (broken and proved and not assumed) as proved_violations,
        count(*) filter (class = 'dropped') as dropped,
        count(*) filter (outcome = 'arrived' and not rivals and not proved) as door_unknown,
        count(*) filter (not rivals and (outcome = 'one-sided' or outcome = 'arrived' and departure is null and client_node is null)) as one_sided,
        count(*) filter (outcome = 'arrived' and not settled) as unsettled,
        count(*) filter (rivals) as rivalled,
        bool_or(assumed) as assumed,
        max(session_affinity) as session_affinity, max(internal_traffic_policy) as internal_traffic_policy,
        -- calls that the setting sends one way, and how likely a blind load balancer would have done the same
        count(*) filter (bound) as bound, exp(sum(ln(if(wants_local, blind_local_share, 1 - blind_local_share))) filter (bound)) as bound_p_value,
        -- calls that had a choice; refused ones had it too
        count(*) filter (chosen) as free, count(*) filter (chosen and is_local) as free_local, avg(expected_local_share) filter (chosen) as free_share,
        count(*) filter (chosen and proved and not assumed) as sure, count(*) filter (chosen and proved and not assumed and is_local) as sure_local,
        avg(expected_local_share) filter (chosen and proved and not assumed) as sure_share
    from calls
    group by client_cluster, namespace, service, setting, setting_from, setting_to
),
tested as materialized (
    select
        *,
        1e-4 / greatest(1, count(*) filter (free > 0) over ()) as level,
        if(free > 0, binomial_test(free_local, free, free_share), null) as p_value,
        if(sure > 0, binomial_test(sure_local, sure, sure_share), null) as sure_p_value,
        -- the least likely of all outcomes
        if(free > 0, least(binomial_test(free, free, free_share), binomial_test(0, free, free_share)), null) as best_p_value,
        -- an observed share this far off is below the level whatever else (Hoeffding's bound)
        if(free > 0, least(greatest(free_share, 1 - free_share), greatest(0.02, sqrt(ln(2 / level) / (2 * free)))), null) as visible_deviation
    from counted
),
judged as (
    select
        t.*, c.lost, c.gap_seconds, c.seconds, coalesce(k.nodes, w.nodes) as blind_nodes, u.names as unknown_names,
        p_value < level and abs(free_local / free - free_share) >= 0.02 as unbalanced,
        case
            when t.setting is null then 'unknown-setting'
            when u.names is not null then 'unknown-objects'
            when t.proved_violations > 0 then 'against-setting'
            when t.rivalled > 0 then 'rival-services'
            when c.lost > max_unproved * t.connections then 'lost-events'
            when t.one_sided > max_unproved * (t.connections + t.one_sided) then 'one-sided'
            when c.gap_seconds > max_unproved * c.seconds then 'gaps'
            when k.nodes is not null or w.nodes is not null then 'unwatched-nodes'
            when t.violations > 0 then if(t.assumed, 'assumed-setting', 'unknown-door')
            when t.connections = 0 then 'no-connections'
            when t.free > 0 and t.session_affinity = 'ClientIP' then 'session-affinity'
            when t.free > 0 and t.internal_traffic_policy = 'Local' then 'internal-traffic-policy'
            when unbalanced and coalesce(t.sure_p_value, 1) < t.level
                then if(t.setting = 'literal-none' and x.cluster is not null and t.free_local > t.free * t.free_share, 'known-bug:46623', 'unbalanced')
            when unbalanced then if(t.assumed, 'assumed-setting', 'unknown-door')
            when t.free > 0 and t.best_p_value >= t.level then 'small-sample'
            when t.free = 0 and t.bound = 0 then 'unsettled'
            when t.free = 0 and t.bound_p_value < 1 and t.bound_p_value >= 1e-4 then 'small-sample'
            when t.fallback > 0 then 'legal-fallback'
            when t.dropped > 0 then 'policy-drops'
            else ''
        end as cause
    from tested t
    cross join coverage c
    cross join unknown_clusters u
    left join bug_46623 x on x.cluster = t.client_cluster
    left join blind_clients k on k.cluster = t.client_cluster
    left join blind_backends w on w.namespace = t.namespace and w.service = t.service
),
told as (
    select
        *,
        case
            when cause in ('against-setting', 'unbalanced') or starts_with(cause, 'known-bug') then 'violation'
            when cause in ('', 'legal-fallback', 'policy-drops') then 'ok'
            else 'insufficient'
        end as verdict,
        format('{} local, {} remote', local, remote) as counts
    from judged
)
select
    client_cluster, namespace, service, coalesce(setting, 'unknown') as setting, shared,
    greatest(coalesce(setting_from, first_time), first_time) as since, least(coalesce(setting_to, end_time), end_time) as until,
    backends_local, backends_remote, expected_local_share, connections, local, remote,
    local / nullif(connections, 0) as local_share, wilson_low(local, connections) as ci_low, wilson_high(local, connections) as ci_high,
    fallback, violations, dropped, door_unknown, verdict, cause,
    case
        when cause = 'unknown-setting' then format('{}; what {} sets for the service is not known: no Kubernetes object of it was seen', counts, client_cluster)
        when cause = 'unknown-objects' then format('{}; the services and backends of {} are not known', counts, unknown_names)
        when cause = 'against-setting' then format('{} of {} went against the setting while its side had active backends', violations, connections)
        when cause = 'rival-services' then format('{} connections may have been meant for another service on the same pods; nothing tells which', rivalled)
        when cause = 'lost-events' then format('{} events were lost, {} connections seen', lost, connections)
        when cause = 'one-sided' then format('{} of {} were seen from one end only', one_sided, connections + one_sided)
        when cause = 'gaps' then format('nodes were out of sight for {:.1f} s of {:.1f} s', gap_seconds, seconds)
        when cause = 'unwatched-nodes' then format('not watched: {}', blind_nodes)
        when cause = 'assumed-setting' then format('{}: this breaks the setting, but it is known only from a look taken afterwards; collect with the Kubernetes API watched', counts)
        when cause = 'unknown-door' then format('{}: this breaks the setting, but {} calls may have gone straight to the pods; set monitor aggregation to none to tell', counts, door_unknown)
        when cause = 'no-connections' then format('no connection arrived; {} attempts were dropped', dropped)
        when cause = 'session-affinity' then format('{}; clients stick to a backend (sessionAffinity ClientIP), so connections are no independent choices', counts)
        when cause = 'internal-traffic-policy' then format('{}; internalTrafficPolicy Local narrows the choice by node', counts)
        when cause = 'known-bug:46623' then format(
            '{} where {} were expected: the literal affinity "none" drops remote backends in Cilium 1.18.10 to 1.19.5 (cilium#46623); remove the annotation or upgrade',
            counts, percent(expected_local_share) || ' local'
        )
        when cause = 'unbalanced' then format('{} where {} local were expected (p = {:.1e})', counts, percent(expected_local_share), p_value)
        when cause = 'small-sample' and free > 0 then format('{}; even the most uneven outcome of {} would be no proof', counts, free)
        when cause = 'small-sample' then format('{}; {} are too few to tell the setting from chance (p = {:.1e})', counts, bound, bound_p_value)
        when cause = 'unsettled' then format('{}; all within 2 s of a change of setting or backends', counts)
        when free > 0 then concat(
            format('{} where {} local are expected; a share off by {} would have shown', counts, percent(expected_local_share), percent(visible_deviation)),
            if(dropped > 0, format('; {} attempts were dropped', dropped), ''), if(door_unknown > 0, format('; {} by an unknown door', door_unknown), '')
        )
        else concat(
            format('{}: as set', counts),
            if(fallback > 0, format('; {} fell back because no preferred backend was active', fallback), ''),
            if(bound > 0, format('; a leak above {} would have shown', percent(3.0 / bound)), ''),
            if(dropped > 0, format('; {} attempts were dropped', dropped), ''), if(door_unknown > 0, format('; {} by an unknown door', door_unknown), '')
        )
    end as reason,
    one_sided, unsettled, p_value
from told
cross join bounds
order by 1, 2, 3, 6, 4;

-- The flows behind report_affinity.
create or replace macro evidence_affinity(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, only_namespace := null::varchar, only_service := null::varchar
) as table
select
    client_cluster, namespace, service, coalesce(setting, 'unknown') as setting, class, proved, attempt as connection,
    end_name(client_namespace, client_pod, client_address) as client, end_name(server_namespace, server_pod, server_address) as server,
    flow.role as role, uuid_text(flow.uuid) as uuid, flow.time as time, flow.node as node
from (
    select c.*, unnest(flows_behind(c)) as flow
    from service_calls_between(window_since(since, whole), window_until(since, until, whole)) c
    where (only_namespace is null or namespace = only_namespace) and (only_service is null or service = only_service)
)
order by class in ('against-setting', 'one-sided') desc, client_cluster, namespace, service, connection, time;
