-- Which connections crossed clusters, which needed not, through which door, and what did it cost?
--   crossings:  how often the border between clusters was passed: twice for a trombone
--   crossed:    calls that passed it at all
--   avoidable:  crossed although the client's cluster had an active backend of that service
--   undecided:  crossed, and not known: by which door, which service, or whether the client's cluster had a backend of it
--   trombones:  left through another cluster's node and came back to the caller's own cluster
--   hairpins:   left the mesh toward an outside address that then called in (an outside balancer)
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
counted as (
    select
        source_cluster, destination_cluster, namespace, service, door,
        count(*) filter (outcome <> 'refused') as connections,
        coalesce(sum(passes) filter (outcome <> 'refused'), 0)::bigint as crossings,
        count(*) filter (outcome <> 'refused' and passes > 0) as crossed,
        count(*) filter (outcome <> 'refused' and avoidable) as avoidable,
        -- a pod that was called by its own address is where it is
        count(*) filter (outcome <> 'refused' and passes > 0 and door <> 'pod' and (door = 'unknown' or service = '' or local_backends is null)) as undecided,
        count(*) filter (outcome <> 'refused' and trombone) as trombones,
        count(*) filter (outcome <> 'refused' and hairpin) as hairpins,
        count(*) filter (outcome = 'refused') as dropped,
        count(*) filter (outcome = 'one-sided') as one_sided,
        -- what the setting forbids: it wants the local side, and the call crossed
        count(*) filter (outcome = 'arrived' and avoidable and settled and setting in ('local', 'not-global') and door = 'service') as against_setting,
        count(*) filter (outcome = 'arrived' and misled) as misled,
        count(*) filter (outcome = 'arrived' and misled and setting = 'not-global') as misled_astray,
        max(setting) as setting
    from hops_between(window_since(since, whole), window_until(since, until, whole), only_namespace, only_service)
    group by all
),
judged as (
    select
        c.*, l.events as lost, h.unwatched,
        case
            when trombones > 0 then 'trombone'
            when hairpins > 0 then 'hairpin'
            when misled_astray > 0 then 'known-bug:24692'
            when against_setting > 0 then 'against-setting'
            when one_sided > max_unproved * connections then 'one-sided'
            when l.events > max_unproved * sum(connections) over () then 'lost-events'
            when h.cluster is not null then if(h.unwatched is not null, 'unwatched-nodes', 'gaps')
            when avoidable > 0 then 'affinity-' || coalesce(setting, 'unknown')
            when misled > 0 then 'known-bug:24692'
            when dropped > 0 then 'policy-drops'
            else ''
        end as cause
    from counted c
    cross join lost l
    left join (
        select source_cluster, destination_cluster, string_agg(distinct unwatched, ', ') as unwatched, any_value(cluster) as cluster
        from (select distinct source_cluster, destination_cluster from counted)
        join holes on cluster = source_cluster or cluster = destination_cluster
        group by all
    ) h using (source_cluster, destination_cluster)
)
select
    source_cluster, destination_cluster, namespace, service, door, connections, crossings, crossed, avoidable, undecided, trombones, hairpins, dropped,
    avoidable / nullif(connections, 0) as avoidable_share, wilson_low(avoidable, connections) as ci_low, wilson_high(avoidable, connections) as ci_high,
    case
        when cause in ('trombone', 'hairpin', 'against-setting') or cause = 'known-bug:24692' and misled_astray > 0 then 'violation'
        when cause in ('one-sided', 'lost-events', 'unwatched-nodes', 'gaps') then 'insufficient'
        else 'ok'
    end as verdict,
    cause,
    case
        when cause = 'trombone' then format('{} of {} left through a node of another cluster and came back: call the service by its name instead of that node''s port', trombones, connections)
        when cause = 'hairpin' then format('{} of {} went out to a balancer and back in: a global service would keep them inside', hairpins, connections)
        when cause = 'known-bug:24692' then format('{} of {} asked a node of another cluster and were answered by {} itself: the same NodePort is used in both', misled, connections, source_cluster)
        when cause = 'one-sided' then format('{} of {} left and were never seen to arrive', one_sided, connections)
        when cause = 'lost-events' then format('{} events were lost while these were counted', lost)
        when cause = 'unwatched-nodes' then format('{} seen; not watched: {}', connections, unwatched)
        when cause = 'gaps' then format('{} seen; nodes were out of sight for a while', connections)
        when cause = 'against-setting' then format('{} of {} crossed although the setting keeps them at home and active backends were there', against_setting, connections)
        when avoidable > 0 then format('{} of {} crossed although {} had active backends; affinity local would keep them there', avoidable, connections, source_cluster)
        when connections = 0 then format('all {} attempts were dropped', dropped)
        when source_cluster = '' then format('{} came from outside the mesh', connections)
        when crossings = 0 then format('{} stayed in {}', connections, source_cluster)
        when door = 'pod' then format('{} called a pod of {} by its own address', connections, destination_cluster)
        when service = '' then format('{} crossed; which service they called is not known', connections)
        else format('{} crossed; {} had no active backend', connections, source_cluster)
    end as reason
from judged
order by 1, 2, 3, 4, 5;

-- The flows behind report_hops.
create or replace macro evidence_hops(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, only_namespace := null::varchar, only_service := null::varchar
) as table
select
    source_cluster, destination_cluster, namespace, service, door, class, attempt as connection,
    end_name(client_namespace, client_pod, client_address) as client, end_name(server_namespace, server_pod, server_address) as server,
    flow.role as role, uuid_text(flow.uuid) as uuid, flow.time as time, flow.node as node
from (
    select h.*, unnest(flows_behind(h)) as flow
    from hops_between(window_since(since, whole), window_until(since, until, whole), only_namespace, only_service) h
)
order by class in ('trombone', 'hairpin', 'avoidable') desc, source_cluster, destination_cluster, namespace, service, door, connection, time;
