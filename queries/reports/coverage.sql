-- What could not have been seen?
-- One row per node that should have been watched, or runs no Cilium agent (`no-agent`) and cannot be.
--   lost:           events lost (loss in a reader's own ring only as far as no other reader has them)
--   gap_seconds:    time without the node although it was asked for flows
--   watched_share:  1 without gaps, 0 for a node that never answered
--   clock_offset:   seconds by which its clock is ahead of those of other nodes, by connections seen from both ends, or
--                   of the collector's
create or replace macro report_coverage(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, max_unproved := 0.01,
    only_namespace := null::varchar, only_service := null::varchar
) as table
with
bounds as materialized (from window_bounds(since, until, whole)),
nodes_seen as materialized (
    from watched_nodes(window_since(since, whole), window_until(since, until, whole)) w
    where only_namespace is null and only_service is null or exists (
        from backends b
        where b.cluster = w.cluster and b.node = w.node
            and (only_namespace is null or b.namespace = only_namespace) and (only_service is null or b.service = only_service)
    )
),
gaps as (
    select cluster, node, sum(seconds) as seconds, count(*) as times from gaps_between(window_since(since, whole), window_until(since, until, whole)) group by all
),
offsets as (
    select node, max_by(seconds, abs(seconds)) as seconds
    from (
        select node, median(seconds) as seconds from clock_pairs(window_since(since, whole), window_until(since, until, whole)) group by node
        union all
        select cluster || '/' || node, ahead_seconds from clocks_apart(window_since(since, whole), window_until(since, until, whole))
    )
    group by node
),
lacking as materialized (
    from lacking_clusters(window_since(since, whole), window_until(since, until, whole), max_unproved)
),
rows_told as (
    select
        w.cluster, w.node, w.agent, b.first_time, b.end_time, w.flows, coalesce(l.events, 0)::ubigint as lost, coalesce(g.seconds, 0.0) as gap_seconds, coalesce(g.times, 0) as gaps,
        if(w.watched, greatest(0.0, 1 - coalesce(g.seconds, 0) / greatest(1e-9, (epoch_ns(b.end_time) - epoch_ns(b.first_time)) / 1e9)), 0.0) as watched_share,
        (select string_agg(distinct v.version, ', ' order by v.version) from node_versions v where v.cluster = w.cluster and v.node = w.node) as versions,
        round(o.seconds, 1) as clock_offset, if(w.flows > 0, (select string_agg(distinct l.what, '; ' order by l.what) from lacking l where l.cluster in ('', w.cluster)), null) as lacking
    from nodes_seen w
    cross join bounds b
    left join losses_between(window_since(since, whole), window_until(since, until, whole)) l on l.cluster = w.cluster and l.node = w.node
    left join gaps g on g.cluster = w.cluster and g.node = w.node
    left join offsets o on o.node = w.cluster || '/' || w.node
),
judged as (
    select
        *,
        case
            when gaps > 0 then format('{} stretch(es) without it, {:.1f} s in all; {} events lost', gaps, gap_seconds, lost)
            when lost > 0 then format('{} of {} events lost', lost, lost + flows)
            when flows = 0 then 'connected; nothing happened there'
            else 'complete'
        end as seen,
        case
            -- Of a service that was asked for alone its backends' nodes are here.
            when not agent and only_namespace is null and only_service is null
                then {'cause': 'no-agent', 'reason': format('runs no Cilium agent ({}): what happens there shows only where it reaches other nodes', (select any_value(n.reason) from nodes_without_agent n where n.cluster = rows_told.cluster and n.node = rows_told.node))}
            when not agent
                then {'cause': 'backends-without-agent', 'reason': 'backends are on it, and it runs no Cilium agent: what arrives there shows nowhere'}
            when watched_share = 0 and gaps = 0
                then {'cause': 'unwatched-node', 'reason': 'no flow of it came, and no Relay was connected to it or its traffic shows elsewhere'}
            when lacking is not null
                then {'cause': 'missing-fields', 'reason': lacking}
            when watched_share < 1 - max_unproved then {'cause': 'gaps', 'reason': seen}
            when lost > max_unproved * flows then {'cause': 'lost-events', 'reason': seen}
            -- Ends further apart than this are not put together.
            when abs(clock_offset) > 4
                then {'cause': 'clock-skew', 'reason': format('its clock is {:.1f} s {} other nodes'': set it by NTP, or relieve its agent, which stamps late when it has too much to do', abs(clock_offset), if(clock_offset > 0, 'ahead of', 'behind'))}
            else {'cause': '', 'reason': seen}
        end as finding
    from rows_told
)
select
    cluster, node, first_time as since, end_time as until, flows, lost, gap_seconds, watched_share, coalesce(versions, '') as version,
    c.verdict, finding.cause as cause, finding.reason as reason, clock_offset
from judged
left join causes_coverage() c on c.cause = finding.cause
order by 1, 2;

-- What each cause in report_coverage means, and what to do about it.
create or replace macro causes_coverage() as table
from (values
    ('', 'ok', 'the node was watched, and neither gaps nor lost events exceed the share that may be unproved', ''),
    ('unwatched-node', 'insufficient', 'no flow of the node came: no Relay was connected to it, or it was silent about traffic that other nodes show', 'bring its Cilium agent back, look whether Hubble is on there, or collect by a Relay that reaches it (--relay, --context)'),
    ('no-agent', 'ok', 'Cilium does not run on the node (Windows, Fargate, a virtual kubelet, or no CiliumNode of it where others are known): nobody can watch it. Reports on services with a backend or client there say so', ''),
    ('backends-without-agent', 'insufficient', 'backends of the service that was asked for are on a node on which Cilium does not run: what arrives there shows nowhere', 'run these backends on nodes with Cilium, or judge the service by its other clusters'),
    ('gaps', 'insufficient', 'the node was out of sight for longer than the share of the window that may be unproved', 'choose a window without the gaps (--evidence lists them), or collect again'),
    ('missing-fields', 'insufficient', 'flows lack fields that rules need, or stand for many flows each: an exporter''s fieldMask or fieldAggregate, a pipeline behind it, or what made them (Retina, old Hubble) has none', 'take the named fields into the exporter''s fieldMask (or leave it empty) and let pipelines keep them, leave fieldAggregate empty, or collect from a Relay; --evidence lists them with what they are needed for'),
    ('lost-events', 'insufficient', 'the node lost more events than the share of its flows that may be unproved', 'choose a window without the losses (--evidence lists them with their source). Fewer get lost in HUBBLE_RING_BUFFER with a larger hubble.eventBufferCapacity or meshobs collect --redundant, in OBSERVER_EVENTS_QUEUE with a larger hubble.eventQueueSize; the size of PERF_EVENT_RING_BUFFER is fixed: give the agent more processor time, or the node less traffic'),
    ('clock-skew', 'insufficient', 'the node''s clock is more than 4 s off those of other nodes or of the collector: the two ends of a connection are put together only where they are at most 5 s apart', 'set the node''s clock by NTP, or relieve its agent, which stamps late when it has too much to do')
) as causes(cause, verdict, meaning, cure);

-- The coverage of a window in one row: the key "coverage" of every report in JSON.
create or replace macro coverage_summary(since := null::timestamp_ns, until := null::timestamp_ns, whole := false) as table
with ends as materialized (
    select outcome, client_kind, door from connections_asked(window_since(since, whole), window_until(since, until, whole))
)
select
    (select count(*) from watched_nodes(window_since(since, whole), window_until(since, until, whole)) where agent) as nodes_expected,
    (select count(*) from watched_nodes(window_since(since, whole), window_until(since, until, whole)) where watched and agent) as nodes_watched,
    (select events_total(events) from losses_between(window_since(since, whole), window_until(since, until, whole))) as lost_events,
    (select count(*) from gaps_between(window_since(since, whole), window_until(since, until, whole))) as gaps,
    coalesce(count(*) filter (outcome = 'one-sided') / nullif(count(*) filter (outcome in ('arrived', 'one-sided')), 0), 0.0) as one_sided_share,
    coalesce(count(*) filter (outcome = 'arrived' and client_kind = 'pod' and door = 'unknown') / nullif(count(*) filter (outcome = 'arrived' and client_kind = 'pod'), 0), 0.0) as door_unknown_share
from ends;

-- What report_coverage rests on: losses and gaps, with their times.
create or replace macro evidence_coverage(
    since := null::timestamp_ns, until := null::timestamp_ns, whole := false, only_namespace := null::varchar, only_service := null::varchar
) as table
select cluster, node, 'lost-events' as class, source || ': ' || num_events_lost || ' lost, told by ' || reader as detail, time
from lost_events
where time >= window_since(since, whole) and time < window_until(since, until, whole)
union all
select cluster, node, 'gap', format('{:.1f} s without flows', seconds), first_time
from gaps_between(window_since(since, whole), window_until(since, until, whole))
union all
select cluster, node, 'node-status', state || coalesce(': ' || message, ''), time
from node_status
where time >= moved(window_since(since, whole), -60) and time < window_until(since, until, whole) and state <> 'NODE_CONNECTED'
union all
select
    cluster, '', 'missing-field',
    format('{}: {} (needed by {})', origin, field, case field when 'socket_cookie' then 'affinity, hops' when 'event_type.sub_type' then 'affinity, hops' else 'affinity, nat, hops' end),
    first_time
from missing_fields(window_since(since, whole), window_until(since, until, whole), 0.01)
order by 1, 2, 5, 3, 4;

-- What was not even asked for in a window, a sentence each.
create or replace macro window_limits(since := null::timestamp_ns, until := null::timestamp_ns, whole := false) as table
with runs as (
    from collections where first_flow < window_until(since, until, whole) and last_flow >= window_since(since, whole)
)
select distinct 'only some flows were asked for, so that a missing one says nothing: ' || asked as "limit" from runs where asked <> ''
union all
select distinct 'flows that decide nothing were counted and not stored (collect --keep events)' from runs where keeps = 'events'
union all
select distinct 'left out: traffic of Hubble (ports 4244 and 4245), of the Relays and API servers in use, and of kubelets that carry a port-forward (--watch-own-traffic takes it in)' from runs where excluded <> ''
union all
select format('{} no Cilium agent: {}. What their pods do shows only where it reaches other nodes', if(count(*) = 1, '1 node runs', count(*) || ' nodes run'), array_to_string(list_sort(list(cluster || '/' || node))[:5], ', ') || if(count(*) > 5, ', ...', ''))
from watched_nodes(window_since(since, whole), window_until(since, until, whole))
where not agent
having count(*) > 0
union all
select format('begins at {}: events before it are pruned; `from connections` has what they made', strftime(kept_since('events'), '%Y-%m-%d %H:%M:%SZ'))
where window_asked(since, whole) < kept_since('events')
union all
select format('flows before {} are pruned: evidence names them by uuid, time and node', strftime(kept_since('flows'), '%Y-%m-%d %H:%M:%SZ'))
where window_since(since, whole) < kept_since('flows')
order by all;
