-- Messages from JSON lines, as rows for the table parsed_lines. A line without a wrapper's key that looks like a flow is one of hubble before 0.11.
-- The expressions for the three kinds of content come from collector/decode/jsonlines.py.
with lines as (
    select position, text, json_valid(text) as readable, if(readable, json_transform(text, getvariable('line_structure')), null) as line
    from incoming_lines
),
sorted as (
    select
        position,
        line,
        coalesce(line.node_status, line."nodeStatus") as node_status,
        coalesce(line.lost_events, line."lostEvents") as lost_events,
        case
            when not readable then 'broken'
            when line.flow is not null then 'flow'
            when lost_events is not null then 'lost_events'
            when node_status is not null then 'node_status'
            when json_exists(text, '$.agent_event') or json_exists(text, '$.debug_event')
                or json_exists(text, '$.agentEvent') or json_exists(text, '$.debugEvent') then 'other'
            when json_exists(text, '$.verdict') or json_exists(text, '$.IP') or json_exists(text, '$.source') then 'flow'
            else 'broken'
        end as kind,
        if(kind = 'flow' and line.flow is null, json_transform(text, getvariable('flow_structure')), line.flow) as flow
    from lines
)
select
    position,
    kind,
    coalesce(line.node_name, line."nodeName", '') as node_name,
    json_moment(line.time) as time,
    {flow} as flow,
    {node_status} as node_status,
    {lost_events} as lost_events
from sorted
