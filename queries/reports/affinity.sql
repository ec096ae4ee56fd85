-- Does each client cluster reach local and remote backends as its setting says?
-- One row per client cluster, service (its port, where it has several: Cilium balances each over the backends of its own name
-- and family of addresses) and period of one setting. `connections` arrived at a backend, from pods of that
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
    select
        window_since(since, whole) as first_time, window_until(since, until, whole) as end_time,
        last_second_ns(window_since(since, whole), window_until(since, until, whole)) as last_second
),
calls as materialized (
    select *,
        not rivals and settled and outcome in ('arrived', 'refused') and wants_local is null and expected_local_share is not null as chosen,
        not rivals and settled and outcome = 'arrived' and wants_local is not null as bound,
        client_node_cluster || '/' || client_node in (select cluster || '/' || node from nodes_that_tell(window_since(since, whole), window_until(since, until, whole))) as told,
        -- Such a client may also be led to itself, which only its sockets or the packet load balancer tell.
        door = 'unknown' and (namespace, service, client_address) in (select (namespace, service, address) from backends) as may_be_itself
    from service_calls_between(window_since(since, whole), window_until(since, until, whole))
    where (only_namespace is null or namespace = only_namespace) and (only_service is null or service = only_service)
),
coverage as materialized (
    select
        coalesce((select sum(events) from losses_between(window_since(since, whole), window_until(since, until, whole))), 0) as lost,
        coalesce((select sum(seconds) from gaps_between(window_since(since, whole), window_until(since, until, whole))), 0) as gap_seconds,
        (select greatest(1, max(ns) - min(ns)) / 1e9 from calls) as seconds
),
came as (from arrivals(window_since(since, whole), window_until(since, until, whole))),
watched as materialized (
    from watched_nodes(window_since(since, whole), window_until(since, until, whole))
),
blind_clients as materialized (
    select cluster, string_agg(cluster || '/' || node, ', ' order by node) as nodes from watched where not watched and agent group by cluster
),
blind_backends as materialized (
    select namespace, service, string_agg(distinct node, ', ' order by node) as nodes
    from (
        select b.namespace, b.service, b.cluster || '/' || b.node as node
        from backends b
        join watched w on w.cluster = b.cluster and w.node = b.node
        where not w.watched and w.agent
        union all
        select s.namespace, s.service, s.cluster || '/' || s.node || ' (runs no Cilium agent)'
        from services_without_agent('came') s
        join watched w on w.cluster = s.cluster and w.node = s.node
        where not w.agent and not s.calls
    )
    group by all
),
-- Who calls from a node without agent chooses unseen.
blind_callers as materialized (
    select s.namespace, s.service, string_agg(distinct s.cluster || '/' || s.node || ' (runs no Cilium agent)', ', ') as nodes
    from services_without_agent('came') s
    join watched w on w.cluster = s.cluster and w.node = s.node
    where not w.agent and s.calls
    group by all
),
unseen as materialized (
    select namespace, service, string_agg(distinct unseen_words(unseen), ', ' order by unseen_words(unseen)) as words
    from unseen_backends(window_since(since, whole), window_until(since, until, whole))
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
        client_cluster, namespace, service, port, setting, any_value(shared) as shared, setting_from, setting_to,
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
        -- What arrived in the last second may have left in events that had not come yet.
        count(*) filter (
            not rivals and (outcome = 'one-sided' or outcome = 'arrived' and departure_uuid is null and client_node is null and ns <= (select last_second from bounds))
        ) as one_sided,
        count(*) filter (not rivals and outcome = 'one-sided') as unarrived,
        count(*) filter (outcome = 'arrived' and not rivals and unseen is not null) as unseen_calls,
        count(*) filter (outcome = 'arrived' and not rivals and is_local is null) as of_several_clusters,
        count(*) filter (outcome = 'arrived' and not rivals and may_be_itself) as may_be_itself,
        coalesce(bool_and(coalesce(told, false)) filter (outcome = 'arrived'), false) as told,
        count(*) filter (outcome = 'arrived' and not settled) as unsettled,
        count(*) filter (rivals) as rivalled,
        bool_or(assumed) as assumed,
        max(session_affinity) as session_affinity, max(traffic_distribution) as traffic_distribution,
        list_sort(list_distinct(flatten(list(unknown_backends)))) as unknown_backends, list_sort(list_distinct(flatten(list(misnamed_backends)))) as misnamed_backends,
        list_sort(list_distinct(flatten(list(closed)))) as closed, list_sort(list_distinct(flatten(list(doubtful)))) as doubtful,
        -- calls that the setting sends one way, and how likely a blind load balancer would have done the same
        count(*) filter (bound) as bound, exp(sum(ln(if(wants_local, blind_local_share, 1 - blind_local_share))) filter (bound)) as bound_p_value,
        -- calls that had a choice; refused ones had it too
        count(*) filter (chosen) as free, count(*) filter (chosen and is_local) as free_local, avg(expected_local_share) filter (chosen) as free_share,
        count(*) filter (chosen and proved and not assumed) as sure, count(*) filter (chosen and proved and not assumed and is_local) as sure_local,
        avg(expected_local_share) filter (chosen and proved and not assumed) as sure_share
    from calls
    group by client_cluster, namespace, service, port, setting, setting_from, setting_to
),
lacking as materialized (
    from lacking_clusters(window_since(since, whole), window_until(since, until, whole), max_unproved)
),
-- Services with a cluster, the client's or a backend's, whose flows lack what rules need.
lacked as materialized (
    select t.client_cluster as for_cluster, t.namespace as for_namespace, t.service as for_service, bool_or(l.distorts) as distorts, string_agg(distinct l.what, '; ' order by l.what) as what
    from (select distinct client_cluster, namespace, service from counted) t
    join lacking l on l.silences and (l.cluster in ('', t.client_cluster) or exists (
        from backends b where b.cluster = l.cluster and b.namespace = t.namespace and b.service = t.service
    ))
    group by all
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
        t.*,
        p_value < level and abs(free_local / free - free_share) >= 0.02 as unbalanced,
        bool_or(door_unknown > 0 and (violations > 0 or unbalanced)) over (partition by client_cluster) as astray,
        format('{} local, {} remote', local, remote) as counts,
        if(unseen_calls > 0, format('; {} are known from the client''s side alone, as their backends give no arrival ({})', unseen_calls, n.words), '') as by_client,
        -- What breaks the setting if it held, and if the calls went through the service.
        if(
            t.assumed,
            {'cause': 'assumed-setting', 'reason': format('{}: this breaks the setting, but it is known only from a look taken afterwards; collect with the Kubernetes API watched', counts)},
            {'cause': 'unknown-door', 'reason': format('{}: this breaks the setting, but {} calls may have gone straight to the pods; set monitor aggregation to none to tell', counts, door_unknown)}
        ) as unproved,
        {'cause': 'missing-fields', 'reason': format('{}; {}', counts, m.what)} as missing,
        concat(
            case
                when free > 0 then format('{} where {} local are expected; a share off by {} would have shown', counts, percent(expected_local_share), percent(visible_deviation))
                else concat(
                    format('{}: as set', counts),
                    if(fallback > 0, format('; {} fell back because no preferred backend was active', fallback), ''),
                    if(bound > 0, format('; a leak above {} would have shown', percent(3.0 / bound)), '')
                )
            end,
            if(len(t.closed) > 0, format('; namespace {} of {} is not global, so its backends do not count', t.namespace, array_to_string(t.closed, ', ')), ''),
            by_client, if(dropped > 0, format('; {} attempts were dropped', dropped), ''), if(door_unknown > 0, format('; {} by an unknown door', door_unknown), '')
        ) as as_set,
        case
            when t.setting is null
                then {'cause': 'unknown-setting', 'reason': format('{}; what {} sets for the service is not known: no Kubernetes object of it was seen', counts, client_cluster)}
            when u.names is not null
                then {'cause': 'unknown-objects', 'reason': format('{}; the services and backends of {} are not known', counts, u.names)}
            when len(t.unknown_backends) > 0
                then {'cause': 'unknown-backends', 'reason': format('{}; no EndpointSlice of the service in {} was seen: which backends it has there is not known', counts, array_to_string(t.unknown_backends, ', '))}
            when m.distorts then missing
            when t.backends_remote = 0 and t.backends_local > 0 and len(t.misnamed_backends) > 0 and t.connections > 0 and t.setting in ('none', 'literal-none', 'remote')
                then {'cause': 'port-names-differ', 'reason': format('{}; {} shares backends, but none by the name of this port: Cilium merges ports by name', counts, array_to_string(t.misnamed_backends, ', '))}
            when t.traffic_distribution <> '' and (t.violations > 0 or unbalanced)
                then {'cause': 'traffic-distribution', 'reason': format('{}; {} narrows the choice by the zones or nodes that its EndpointSlices hint at', counts, t.traffic_distribution)}
            when len(t.doubtful) > 0 and (t.violations > 0 or unbalanced) and not (t.setting = 'literal-none' and x.cluster is not null)
                then {'cause': 'unknown-namespace', 'reason': format('{}: this breaks the setting unless namespace {} of {} is not global, and no Namespace of it was seen', counts, t.namespace, array_to_string(t.doubtful, ', '))}
            when t.proved_violations > 0
                then {'cause': 'against-setting', 'reason': concat(
                    format('{} of {} went against the setting while its side had active backends', violations, connections), by_client,
                    if(t.session_affinity = 'ClientIP', '; clients stick to a backend that they had before the setting was made (sessionAffinity ClientIP)', '')
                )}
            when m.what is not null then missing
            when t.rivalled > 0
                then {'cause': 'rival-services', 'reason': format('{} connections may have been meant for another service on the same pods; nothing tells which', rivalled)}
            when c.lost > max_unproved * t.connections
                then {'cause': 'lost-events', 'reason': format('{} events were lost, {} connections seen', c.lost, connections)}
            when t.one_sided > max_unproved * (t.connections + t.unarrived)
                then {'cause': 'one-sided', 'reason': format('{} of {} were seen from one end only', one_sided, connections + unarrived)}
            when c.gap_seconds > max_unproved * c.seconds
                then {'cause': 'gaps', 'reason': format('nodes were out of sight for {:.1f} s of {:.1f} s', c.gap_seconds, c.seconds)}
            when n.words is not null and (t.of_several_clusters > 0 or not t.told)
                then {'cause': 'unseen-backends', 'reason': concat(
                    counts, '; backends give no arrival (', n.words, '), and ',
                    if(t.of_several_clusters > 0, format('{} calls went to addresses that are backends in several clusters', of_several_clusters), 'nodes of the clients do not show what leaves them')
                )}
            -- Where the clients' nodes tell, a backend's node need not.
            when k.nodes is not null or v.nodes is not null or w.nodes is not null and not t.told
                then {'cause': 'unwatched-nodes', 'reason': format('not watched: {}', coalesce(k.nodes, v.nodes, w.nodes))}
            when t.violations > 0 then unproved
            when t.connections = 0
                then {'cause': 'no-connections', 'reason': format('no connection arrived; {} attempts were dropped', dropped)}
            when t.free > 0 and t.may_be_itself > max_unproved * t.connections
                then {'cause': 'calls-to-itself', 'reason': format('{}; {} are of clients that are backends, too: what they were led to themselves shows at no node', counts, may_be_itself)}
            when t.free > 0 and t.session_affinity = 'ClientIP'
                then {'cause': 'session-affinity', 'reason': format('{}; clients stick to a backend (sessionAffinity ClientIP), so connections are no independent choices', counts)}
            when unbalanced and coalesce(t.sure_p_value, 1) < t.level and t.setting = 'literal-none' and x.cluster is not null and t.free_local > t.free * t.free_share
                then {'cause': 'known-bug:46623', 'reason': format(
                    '{} where {} were expected: the literal affinity "none" drops remote backends in Cilium 1.18.10 to 1.19.5 (cilium#46623); remove the annotation or upgrade',
                    counts, percent(expected_local_share) || ' local'
                )}
            when unbalanced and coalesce(t.sure_p_value, 1) < t.level
                then {'cause': 'unbalanced', 'reason': format('{} where {} local were expected (p = {:.1e})', counts, percent(expected_local_share), p_value)}
            when unbalanced then unproved
            when t.free > 0 and t.best_p_value >= t.level
                then {'cause': 'small-sample', 'reason': format('{}; even the most uneven outcome of {} would be no proof', counts, free)}
            when t.free = 0 and t.bound = 0
                then {'cause': 'unsettled', 'reason': format('{}; all within 2 s of a change of setting or backends, or while no backend was active', counts)}
            when t.free = 0 and t.bound_p_value < 1 and t.bound_p_value >= 1e-4
                then {'cause': 'small-sample', 'reason': format('{}; {} are too few to tell the setting from chance (p = {:.1e})', counts, bound, bound_p_value)}
            -- Calls straight to pods can look like any share, and here are some, or another service is broken.
            when t.door_unknown = t.connections and astray
                then {'cause': 'unknown-door', 'reason': format('{}: as the setting says, but each may have gone straight to a pod, as calls of another service of {} seem to do; set monitor aggregation to none to tell', counts, client_cluster)}
            when t.fallback > 0 then {'cause': 'legal-fallback', 'reason': as_set}
            when t.dropped > 0 then {'cause': 'policy-drops', 'reason': as_set}
            when len(t.closed) > 0 then {'cause': 'namespace-not-global', 'reason': as_set}
            else {'cause': '', 'reason': as_set}
        end as finding
    from tested t
    cross join coverage c
    cross join unknown_clusters u
    left join lacked m on m.for_cluster = t.client_cluster and m.for_namespace = t.namespace and m.for_service = t.service
    left join bug_46623 x on x.cluster = t.client_cluster
    left join blind_clients k on k.cluster = t.client_cluster
    left join unseen n on n.namespace = t.namespace and n.service = t.service
    left join blind_backends w on w.namespace = t.namespace and w.service = t.service
    left join blind_callers v on v.namespace = t.namespace and v.service = t.service
)
select
    client_cluster, namespace, service, coalesce(port, '') as port, coalesce(setting, 'unknown') as setting, shared,
    greatest(coalesce(setting_from, first_time), first_time) as since, least(coalesce(setting_to, end_time), end_time) as until,
    backends_local, backends_remote, expected_local_share, connections, local, remote,
    local / nullif(connections, 0) as local_share, wilson_low(local, connections) as ci_low, wilson_high(local, connections) as ci_high,
    fallback, violations, dropped, door_unknown, c.verdict, finding.cause as cause, finding.reason as reason,
    one_sided, unsettled, p_value
from judged
cross join bounds
left join causes_affinity() c on c.cause = finding.cause
order by 1, 2, 3, 4, 7, 5;

-- What each cause in report_affinity means, and what to do about it.
create or replace macro causes_affinity() as table
from (values
    ('', 'ok', 'the calls went as the setting says; the reason names the deviation that would have shown', ''),
    ('legal-fallback', 'ok', 'calls went to the other side while the preferred one had no active backend (ready and not terminating), as Cilium documents', 'none; where the preferred side should have answered, keep backends ready there'),
    ('policy-drops', 'ok', 'what arrived went as the setting says; other attempts were dropped', 'if the drops are not meant, look at the network policies of clients and backends: --evidence lists the drops, and drop_reason in the table flows says why'),
    ('namespace-not-global', 'ok', 'the calls went as the setting says; what clusters offer from a namespace that is not global does not count', 'if the service is to be shared, annotate that Namespace clustermesh.cilium.io/global: "true"'),
    ('against-setting', 'violation', 'proved calls went to a side that the setting, or the lack of active backends there, rules out', 'in the Cilium pod of the client''s node compare cilium-dbg service list with the Service and its backends; where they differ, look whether cilium-dbg status --all-clusters shows the other clusters as ready, then restart that agent'),
    ('unbalanced', 'violation', 'the setting leaves the choice, but local and remote backends are not called in proportion to their number', 'look whether all agents of the client''s cluster have all backends (cilium-dbg service list in each Cilium pod), whether the clusters are connected (cilium clustermesh status), and from Cilium 1.20 on whether the namespace is global in the other clusters (its annotation clustermesh.cilium.io/global)'),
    ('known-bug:46623', 'violation', 'the annotation affinity: "none", written out, drops every remote backend in Cilium 1.18.10 to 1.19.5 (cilium/cilium#46623)', 'remove the annotation, which asks for the same, or upgrade Cilium to 1.19.6 or later'),
    ('unknown-setting', 'insufficient', 'no Service object tells what the client''s cluster set for the service when it was called', 'collect with the Kubernetes API of that cluster (--context), or import its Services and EndpointSlices'),
    ('unknown-objects', 'insufficient', 'no Service of some cluster is known, so that its backends, if it has any, would count as none', 'collect with the Kubernetes API of every cluster (--context), or import the Services and EndpointSlices of all'),
    ('unknown-backends', 'insufficient', 'a cluster has the service, but no EndpointSlice of it was seen, and that is not the same as no backend', 'let the collector list and watch EndpointSlices of that cluster (docs/rbac.yaml), or import them'),
    ('unknown-namespace', 'insufficient', 'the calls break the setting, unless the namespace is not global in a cluster of Cilium 1.20 or newer, of which no Namespace was seen', 'let the collector list and watch Namespaces (docs/rbac.yaml) and read cilium-config, or import both'),
    ('port-names-differ', 'insufficient', 'other clusters share backends of the service, but under other names of ports, which Cilium does not merge; so all calls stay', 'give the ports of the Services the same names in all clusters'),
    ('traffic-distribution', 'insufficient', 'trafficDistribution or topology mode narrows the choice to zones or nodes that the EndpointSlices hint at, so that the expected share is not that of all backends', 'remove trafficDistribution (or the topology-mode annotation) for the time of the audit; with enable-service-topology off in cilium-config it has no effect'),
    ('assumed-setting', 'insufficient', 'the calls break the setting as it was found later; when they were made it may have been another one', 'collect with the Kubernetes API watched (--context), or import watch logs, from before the traffic on'),
    ('unknown-door', 'insufficient', 'the calls break the setting if they went through the service, but those that are known to have done so do not prove it: the others may have gone straight to the pods; or they follow it, but may all have gone straight to pods, as calls of another service seem to do', 'set bpf.monitorAggregation to none for the time of the audit, and leave socketLB.tracing on'),
    ('rival-services', 'insufficient', 'several services lead to the same pods, called or not, and nothing tells which one was meant', 'set bpf.monitorAggregation to none and leave socketLB.tracing on, or audit while only one of the Services exists'),
    ('missing-fields', 'insufficient', 'flows lack fields that rules need, or stand for many flows each: an exporter''s fieldMask or fieldAggregate, a pipeline behind it, or what made them (Retina, old Hubble) has none', 'take the named fields into the exporter''s fieldMask (or leave it empty) and let pipelines keep them, leave fieldAggregate empty, or collect from a Relay; meshobs report coverage --evidence lists them'),
    ('lost-events', 'insufficient', 'nodes lost more events than the share of the row''s connections that may be unproved', 'choose a window without the losses (meshobs report coverage --evidence lists them), or make them fewer as lost-events of report_coverage says'),
    ('one-sided', 'insufficient', 'too many connections were seen from one end only', 'collect the nodes of both clusters; meshobs report coverage names those that are missing'),
    ('gaps', 'insufficient', 'nodes were out of sight for longer than the share of the time that may be unproved', 'choose a window without the gaps (meshobs report coverage --evidence lists them), or collect again'),
    ('unwatched-nodes', 'insufficient', 'of some nodes of the client''s cluster, or of the backends'', no flow came: no Relay was connected to them, or they were silent about traffic that other nodes show', 'meshobs report coverage names them: bring their Cilium agents or their Relay back, or collect by a Relay that reaches them (--relay, --context)'),
    ('unseen-backends', 'insufficient', 'some backends give no arrival: hosts, machines that are no pods, pods on nodes out of sight; and the clients'' side does not tell what went to them', 'collect the nodes of the clients without a filter, so that what leaves them shows; give backends in different clusters different addresses; meshobs report services names those that give no arrival'),
    ('calls-to-itself', 'insufficient', 'clients are backends of the service as well: a call that is led back to the caller leaves no packet, and here no socket event, so that the share seen is not the share chosen', 'set bpf.monitorAggregation to none for the time of the audit and leave socketLB.tracing on, or call from pods that are no backends'),
    ('no-connections', 'insufficient', 'no connection arrived: every attempt was dropped', 'look at the network policies of clients and backends: --evidence lists the drops, and drop_reason in the table flows says why'),
    ('session-affinity', 'insufficient', 'sessionAffinity ClientIP lets clients stick to one backend, so that connections are no independent choices', 'set sessionAffinity: None on the Service of the client''s cluster for the time of the audit'),
    ('small-sample', 'insufficient', 'so few connections prove nothing: the most uneven outcome may be chance, or a balancer that knows no setting would do the same', 'let more traffic flow, or ask a longer window (--since, --all)'),
    ('unsettled', 'insufficient', 'all calls fell within 2 s of a change of setting or backends, and may have followed either state, or no backend was active at all', 'ask a window away from the change, or let traffic flow for longer; where no backend was active, look why none is ready')
) as causes(cause, verdict, meaning, cure);

-- The flows behind report_affinity.
create or replace macro evidence_affinity(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, only_namespace := null::varchar, only_service := null::varchar
) as table
select
    client_cluster, namespace, service, coalesce(port, '') as port, coalesce(setting, 'unknown') as setting, class, proved, connection,
    end_name(client_namespace, client_pod, client_address) as client, end_name(server_namespace, server_pod, server_address) as server,
    flow.*
from (
    select c.*, dense_rank() over (order by c.time, c.attempt) as connection, unnest(flows_behind(c)) as flow
    from service_calls_between(window_since(since, whole), window_until(since, until, whole)) c
    where (only_namespace is null or namespace = only_namespace) and (only_service is null or service = only_service)
)
order by class in ('against-setting', 'one-sided') desc, client_cluster, namespace, service, connection, flow.time;
