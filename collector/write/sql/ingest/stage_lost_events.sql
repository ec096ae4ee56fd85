-- Lost events that the store does not have yet: loss before the ring is the same for every reader and is stored once;
-- a reader's own loss has its own time.
delete from staged_lost_events;
insert into staged_lost_events by name
with seen as (
    select
        position,
        possible(coalesce(time, lost_events.last)::timestamp_ns) as time,
        cluster_of(coalesce(node_name, '')) as cluster,
        node_of(coalesce(node_name, '')) as node,
        coalesce(lost_event_source_name(lost_events.source), 'UNKNOWN') as source,
        lost_events.num_events_lost as num_events_lost,
        lost_events.cpu as cpu,
        possible(lost_events.first::timestamp_ns) as first,
        possible(lost_events.last::timestamp_ns) as last
    from {messages}
    where lost_events is not null
)
select *
from seen
where time is not null
    and not exists (
        from lost_events l
        where l.time = seen.time and l.cluster = seen.cluster and l.node = seen.node and l.source = seen.source
            and l.num_events_lost = seen.num_events_lost and l.cpu is not distinct from seen.cpu
    )
qualify row_number() over (partition by time, cluster, node, source, num_events_lost, cpu order by position) = 1;
