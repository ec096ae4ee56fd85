-- Status messages that the store does not have yet, one row per node that they name.
delete from staged_node_status;
insert into staged_node_status by name
with seen as (
    select
        position,
        possible(time::timestamp_ns) as time,
        nullif(node_name, '') as relay,
        coalesce(node_state_name(node_status.state_change), 'UNKNOWN_NODE_STATE') as state,
        list_filter(node_status.node_names, lambda name: name is not null) as names,
        unnest(if(len(names) = 0, [''], names)) as full_node_name,
        nullif(node_status.message, '') as message
    from {messages}
    where node_status is not null
)
select
    position, time, relay, state, message,
    if(full_node_name = '', '', cluster_of(full_node_name)) as cluster,
    node_of(full_node_name) as node
from seen
where time is not null
    and not exists (
        from node_status n
        where n.time = seen.time and n.relay is not distinct from seen.relay and n.state = seen.state
            and n.cluster = if(full_node_name = '', '', cluster_of(full_node_name)) and n.node = node_of(full_node_name)
    )
qualify row_number() over (partition by time, relay, state, full_node_name order by position) = 1;
