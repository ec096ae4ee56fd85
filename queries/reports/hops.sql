-- Which connections crossed clusters, which needed not, and by which door?
--   crossings:  how often the border between clusters was passed: twice for a trombone
--   crossed:    calls that passed it at all
--   avoidable:  crossed although the client's cluster had an active backend of that service
--   undecided:  not known: whether it crossed (the client's cluster is unknown), or of what crossed by which door, to which
--               service, or whether the client's cluster had a backend of it
--   trombones:  left through another cluster's node and came back to the caller's own cluster
--   hairpins:   left the mesh toward an outside balancer that then called in: the address is that of the service's load
--               balancer, or calls to its port come in by a door of the service at once, more often than by chance
--   dropped:    attempts that were dropped on the way
-- Nothing is said of latency: flow times are when the agent read the event.
create or replace macro report_hops(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, max_unproved := 0.01,
    only_namespace := null::varchar, only_service := null::varchar
) as table
with
lost as materialized (
    select coalesce(sum(events), 0) as events from losses_between(window_since(since, whole), window_until(since, until, whole))
),
holes as materialized (
    from holes_between(window_since(since, whole), window_until(since, until, whole), max_unproved)
),
counted as materialized (
    select
        source_cluster, destination_cluster, namespace, service, door,
        count(*) filter (outcome <> 'refused') as connections,
        coalesce(sum(passes) filter (outcome <> 'refused'), 0)::bigint as crossings,
        count(*) filter (outcome <> 'refused' and passes > 0) as crossed,
        count(*) filter (outcome <> 'refused' and avoidable) as avoidable,
        -- a pod that was called by its own address is where it is
        count(*) filter (outcome <> 'refused' and (passes is null or passes > 0 and door <> 'pod' and (door = 'unknown' or service = '' or local_backends is null))) as undecided,
        count(*) filter (outcome <> 'refused' and trombone) as trombones,
        count(*) filter (outcome <> 'refused' and hairpin) as hairpins,
        count(*) filter (outcome <> 'refused' and turned_by = 'possible') as turned_perhaps,
        count(*) filter (outcome <> 'refused' and turned_by = 'hidden') as hidden,
        count(*) filter (outcome = 'refused') as dropped,
        count(*) filter (outcome = 'one-sided') as one_sided,
        -- what the setting forbids: it wants the local side, and the call crossed
        count(*) filter (outcome in ('arrived', 'sent') and avoidable and settled and not assumed and setting in ('local', 'not-global') and door = 'service') as against_setting,
        count(*) filter (outcome = 'arrived' and misled) as misled,
        count(*) filter (outcome = 'arrived' and misled and not assumed and setting = 'not-global') as misled_astray,
        -- the same by a setting that is known only from a later look, which breaks nothing
        count(*) filter (outcome = 'arrived' and assumed and (avoidable and settled and setting in ('local', 'not-global') and door = 'service' or misled and setting = 'not-global')) as against_assumed,
        -- why a call that crossed is not proved to be against such a setting
        count(*) filter (outcome = 'arrived' and avoidable and not settled) as unsettled,
        count(*) filter (outcome in ('arrived', 'sent') and avoidable and settled and setting in ('local', 'not-global') and door = 'unknown') as door_unknown,
        max(setting) filter (outcome in ('arrived', 'sent') and avoidable and settled and setting in ('local', 'not-global') and door = 'unknown') as setting_at_unknown,
        count(*) filter (outcome = 'one-sided' and avoidable) as avoidable_one_sided,
        list_sort(list(distinct server_address) filter (outcome = 'one-sided')) as never_seen,
        max(setting) as setting
    from hops_between(window_since(since, whole), window_until(since, until, whole), only_namespace, only_service)
    group by all
),
losses as materialized (
    select cluster, sum(events) as events, string_agg(cluster || '/' || node, ', ' order by node) as nodes
    from losses_between(window_since(since, whole), window_until(since, until, whole))
    group by cluster
),
agentless as materialized (
    select c.source_cluster, c.destination_cluster, c.namespace, c.service, c.door, string_agg(distinct b.node, ', ' order by b.node) as nodes
    from (select *, unnest(never_seen) as address from counted) c
    join backends_without_agent b using (address)
    group by all
),
lacking as materialized (
    from lacking_clusters(window_since(since, whole), window_until(since, until, whole), max_unproved)
),
pairs as (
    select distinct source_cluster as one, destination_cluster as other from counted
),
lacked as materialized (from lacking_pairs('pairs', 'lacking')),
judged as (
    select
        c.*, h.unwatched,
        {'cause': 'missing-fields', 'reason': format('{} seen; {}', connections, m.what)} as missing,
        why_unseen(one_sided, d.unwatched, a.nodes, d.gap_seconds, d.window_seconds, max_unproved, e.events, e.nodes) as unseen,
        concat_ws(
            ', ', if(unsettled > 0, format('{} within 2 s of a change', unsettled), null), if(avoidable_one_sided > 0, format('{} not seen to arrive', avoidable_one_sided), null),
            if(door in ('nodeport', 'loadbalancer'), 'through the address of a node or balancer', null)
        ) as unproved,
        case
            when connections = 0 then format('all {} attempts were dropped', dropped)
            when source_cluster = '' then format('{} came from outside the mesh', connections)
            when source_cluster = 'unknown' then format('{} came in under the address of a node; from where is not known', connections)
            when crossings = 0 then format('{} stayed in {}', connections, source_cluster)
            when door = 'pod' then format('{} called a pod of {} by its own address', connections, destination_cluster)
            when service = '' then format('{} crossed; which service they called is not known', connections)
            when undecided > 0 then format('{} crossed; of {} it is not known whether they needed to', connections, undecided)
            else format('{} crossed; {} had no active backend', connections, source_cluster)
        end as way,
        {
            'cause': 'known-bug:24692',
            'reason': format('{} of {} asked a node of another cluster and were answered by {} itself: the same NodePort is used in both', misled, connections, source_cluster)
        } as answered_at_home,
        case
            when m.distorts then missing
            when trombones > 0
                then {'cause': 'trombone', 'reason': format('{} of {} left through a node of another cluster and came back: call the service by its name instead of that node''s port', trombones, connections)}
            when hairpins > 0
                then {'cause': 'hairpin', 'reason': format('{} of {} went out to a balancer and back in: a global service would keep them inside', hairpins, connections)}
            when misled_astray > 0 then answered_at_home
            when against_setting > 0
                then {'cause': 'against-setting', 'reason': format('{} of {} crossed although the setting keeps them at home and active backends were there', against_setting, connections)}
            when m.what is not null then missing
            when one_sided > max_unproved * connections and unseen is not null
                then {'cause': 'one-sided', 'reason': format('{} of {} left and were never seen to arrive; {}', one_sided, connections, unseen)}
            when one_sided > max_unproved * connections
                then {'cause': 'lost-between', 'reason': format('{} of {} left and were never seen to arrive, though nothing explains it in {}, where all was watched: they got lost on the way, or something translates them and changes the ports as well', one_sided, connections, destination_cluster)}
            when l.events > max_unproved * sum(connections) over ()
                then {'cause': 'lost-events', 'reason': format('{} events were lost while these were counted', l.events)}
            when h.cluster is not null and h.unwatched is not null
                then {'cause': 'unwatched-nodes', 'reason': format('{} seen; not watched: {}', connections, h.unwatched)}
            when h.cluster is not null
                then {'cause': 'gaps', 'reason': format('{} seen; nodes were out of sight for a while', connections)}
            when against_assumed > 0
                then {'cause': 'assumed-setting', 'reason': format('{} of {} crossed although the setting keeps them at home, but it is known only from a look taken afterwards; collect with the Kubernetes API watched', against_assumed, connections)}
            when door_unknown > 0
                then {'cause': 'unknown-door', 'reason': format(
                    '{} of {} crossed although {} had active backends and {}: this breaks the setting, unless they went straight to the pods; set monitor aggregation to none to tell',
                    door_unknown, connections, source_cluster, if(setting_at_unknown = 'local', 'affinity local is set', 'the service is not global there')
                )}
            when avoidable > 0 and door = 'ingress'
                then {'cause': 'ingress', 'reason': format('{} of {} were sent across by Envoy (ingress, gateway) of {}, which had active backends; whoever called it is no client of the service', avoidable, connections, source_cluster)}
            when avoidable > 0 and setting in ('local', 'not-global')
                then {'cause': 'affinity-' || setting, 'reason': format(
                    '{} of {} crossed although {} had active backends and {}; nothing proves that they broke it: {}', avoidable, connections, source_cluster,
                    if(setting = 'local', 'affinity local is set', 'the service is not global there'), unproved
                )}
            when avoidable > 0
                then {'cause': 'affinity-' || setting, 'reason': format('{} of {} crossed although {} had active backends; affinity local would keep them there', avoidable, connections, source_cluster)}
            when misled > 0 then answered_at_home
            when hidden > max_unproved * connections
                then {'cause': 'hidden-callers', 'reason': format('{}; {} of them followed a pod''s call to an address outside by a port of that service: they may be that pod''s, turned back by a balancer', way, hidden)}
            when turned_perhaps > 0
                then {'cause': 'possible-hairpin', 'reason': format('{}; {} of them followed a pod''s call to that address at once, as a balancer''s would', way, turned_perhaps)}
            when dropped > 0 then {'cause': 'policy-drops', 'reason': way || if(connections > 0, format('; {} attempts were dropped', dropped), '')}
            else {'cause': '', 'reason': way}
        end as finding
    from counted c
    cross join lost l
    left join lacked m on m.one = c.source_cluster and m.other = c.destination_cluster
    left join (
        select source_cluster, destination_cluster, string_agg(distinct unwatched, ', ') as unwatched, any_value(cluster) as cluster
        from (select distinct source_cluster, destination_cluster from counted)
        join holes on cluster = source_cluster or cluster = destination_cluster
        group by all
    ) h using (source_cluster, destination_cluster)
    left join holes d on d.cluster = c.destination_cluster
    left join losses e on e.cluster = c.destination_cluster
    left join agentless a using (source_cluster, destination_cluster, namespace, service, door)
)
select
    source_cluster, destination_cluster, namespace, service, door, connections, crossings, crossed, avoidable, undecided, trombones, hairpins, dropped,
    avoidable / nullif(connections, 0) as avoidable_share, wilson_low(avoidable, connections) as ci_low, wilson_high(avoidable, connections) as ci_high,
    c.verdict, finding.cause as cause, finding.reason as reason
from judged
-- The one cause with two verdicts: whose answer the setting allows is ok.
left join causes_hops() c on c.cause = finding.cause and (c.cause <> 'known-bug:24692' or (c.verdict = 'violation') = (misled_astray > 0))
order by 1, 2, 3, 4, 5;

-- What each cause in report_hops means, and what to do about it.
create or replace macro causes_hops() as table
from (values
    ('', 'ok', 'the calls stayed in their cluster, crossed as it had no active backend, aimed at a pod of another one or came from outside; the column undecided counts crossings that may be none of these', ''),
    ('policy-drops', 'ok', 'attempts were dropped; what went through, if anything, took the way it had to', 'if the drops are not meant, look at the network policies of clients and backends: --evidence lists the drops, and drop_reason in the table flows says why'),
    ('affinity-none', 'ok', 'calls crossed although their own cluster had active backends: without an affinity Cilium takes all backends alike', 'to keep them at home, call the service by its name, annotated service.cilium.io/affinity: local in the client''s cluster'),
    ('affinity-literal-none', 'ok', 'calls crossed although their own cluster had active backends: affinity "none", written out, prefers no side', 'to keep them at home, call the service by its name, annotated service.cilium.io/affinity: local in the client''s cluster'),
    ('affinity-remote', 'ok', 'calls crossed although their own cluster had active backends: affinity remote prefers the others', 'to keep them at home, call the service by its name, annotated service.cilium.io/affinity: local in the client''s cluster'),
    ('affinity-local', 'ok', 'calls crossed although affinity local is set and their own cluster had active backends; none of these calls is against it: within 2 s of a change, not seen to arrive, or through the address of a node or balancer', 'call the service by its name; where it was a change, ask a window away from it'),
    ('affinity-not-global', 'ok', 'calls crossed although the service is not global in their own cluster, which had active backends; none of these calls is against it: within 2 s of a change, not seen to arrive, or through the address of a node or balancer', 'call the service by its name; where it was a change, ask a window away from it'),
    ('unknown-door', 'insufficient', 'calls crossed although the setting keeps the service''s calls at home and active backends were there; they break it if they went through the service, and are right if they went straight to the pods, which nothing tells', 'set bpf.monitorAggregation to none for the time of the audit, and leave socketLB.tracing on'),
    ('known-bug:24692', 'ok', 'calls of another cluster''s NodePort were answered at home, where the same port is used (cilium/cilium#24692, before 1.19); nothing shows that the service is not global, so that the answer is taken for a right one', 'call the service by its name, give the NodePorts of the clusters different numbers, or upgrade Cilium to 1.19 or later'),
    ('known-bug:24692', 'violation', 'calls of another cluster''s NodePort were answered at home, where the same port is used (cilium/cilium#24692, before 1.19) and the service is not global', 'give the NodePorts of the clusters different numbers, upgrade Cilium to 1.19 or later, or make the service global and call it by its name'),
    ('trombone', 'violation', 'calls left through a node of another cluster and came back to their own', 'call the service by its name instead of that node''s port'),
    ('ingress', 'ok', 'calls were sent across by Cilium''s own Envoy for clients of an Ingress or Gateway, although its cluster had active backends; Envoy picks the backend itself', 'to keep them at home, annotate the Service that the route leads to with service.cilium.io/affinity: local in the cluster of the Ingress or Gateway, and look with this report whether that Cilium heeds it'),
    ('hidden-callers', 'insufficient', 'calls came in under the address of a node, as kube-proxy lets them, while pods called addresses outside by a port of the same service: if a balancer turned those back, they are pods'' calls that left their cluster or crossed', 'set monitor aggregation to none or let Cilium serve NodePorts, so that callers show; or call the service by its name'),
    ('possible-hairpin', 'ok', 'calls from an outside address followed calls of pods to that address at once, more often than by chance; they may be the same ones, passed on by a balancer, or calls back of a host outside: nothing shows that the address is a balancer''s', 'if it is a balancer, name its address in the Service (status.loadBalancer or externalIPs), so that its calls are told as hairpins'),
    ('hairpin', 'violation', 'calls went out to a balancer outside the mesh and came back in: the address is that of the service''s load balancer, or what is sent to the service''s port there comes in by a door of the service at once, more often than by chance', 'make the service global (service.cilium.io/global: "true" in each cluster) and call it by its name'),
    ('against-setting', 'violation', 'calls through the service crossed although the setting keeps them at home and active backends were there', 'in the Cilium pod of the client''s node compare cilium-dbg service list with the Service and its backends; where they differ, look whether cilium-dbg status --all-clusters shows the other clusters as ready, then restart that agent'),
    ('assumed-setting', 'insufficient', 'the calls break the setting as it was found later; when they were made it may have been another one', 'collect with the Kubernetes API watched (--context), or import watch logs, from before the traffic on'),
    ('one-sided', 'insufficient', 'too many connections left and were never seen to arrive: where they went nodes were not watched, run no Cilium agent, or lost events', 'collect the nodes of the destination cluster; meshobs report coverage names those that are missing'),
    ('lost-between', 'insufficient', 'too many connections left and were never seen to arrive, although everything was seen where they went: they got lost on the way, or were translated so that nothing ties the two ends', 'look for a firewall or NAT gateway on the way: compare the connections that came from outside the mesh (--evidence) with those that left, and capture packets on both nodes'),
    ('missing-fields', 'insufficient', 'flows lack fields that rules need, or stand for many flows each: an exporter''s fieldMask or fieldAggregate, a pipeline behind it, or what made them (Retina, old Hubble) has none', 'take the named fields into the exporter''s fieldMask (or leave it empty) and let pipelines keep them, leave fieldAggregate empty, or collect from a Relay; meshobs report coverage --evidence lists them'),
    ('lost-events', 'insufficient', 'nodes lost more events than the share of all connections that may be unproved', 'choose a window without the losses (meshobs report coverage --evidence lists them), or make them fewer as lost-events of report_coverage says'),
    ('unwatched-nodes', 'insufficient', 'of some nodes of the two clusters no flow came: no Relay was connected to them, or they were silent about traffic that other nodes show', 'meshobs report coverage names them: bring their Cilium agents or their Relay back, or collect by a Relay that reaches them (--relay, --context)'),
    ('gaps', 'insufficient', 'nodes of the two clusters were out of sight for longer than the share of the time that may be unproved', 'choose a window without the gaps (meshobs report coverage --evidence lists them), or collect again')
) as causes(cause, verdict, meaning, cure);

-- The flows behind report_hops.
create or replace macro evidence_hops(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, only_namespace := null::varchar, only_service := null::varchar
) as table
select
    source_cluster, destination_cluster, namespace, service, door, class, connection,
    end_name(client_namespace, client_pod, client_address) as client, end_name(server_namespace, server_pod, server_address) as server,
    flow.*
from (
    select h.*, dense_rank() over (order by h.time, h.attempt) as connection, unnest(flows_behind(h)) as flow
    from hops_between(window_since(since, whole), window_until(since, until, whole), only_namespace, only_service) h
)
order by class in ('trombone', 'hairpin', 'avoidable') desc, source_cluster, destination_cluster, namespace, service, door, connection, flow.time;
