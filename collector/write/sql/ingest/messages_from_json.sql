-- Messages from JSON lines, as rows for the table parsed_lines. A line without a wrapper's key that looks like a flow is one of hubble before 0.11:
-- it has a time, and addresses or ends of Hubble's shape. `source` and `IP` alone are also keys of logs (slog, ECS), which are `foreign`.
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
            when not readable then if(is_log_line(text), 'foreign', 'broken')
            when line.flow is not null then if(is_flow(line.flow), 'flow', 'broken')
            when lost_events is not null then 'lost_events'
            when node_status is not null then 'node_status'
            when json_exists(text, '$.agent_event') or json_exists(text, '$.debug_event')
                or json_exists(text, '$.agentEvent') or json_exists(text, '$.debugEvent') then 'other'
            when has_text(text, '$.time') and (
                has_text(text, '$.IP.source') or is_endpoint(text, '$.source') or is_endpoint(text, '$.destination')
                or ((has_text(text, '$.node_name') or has_text(text, '$.nodeName')) and json_exists(text, '$.verdict') and not is_log(text))
            ) then 'flow'
            when is_log(text) then 'foreign'
            else 'broken'
        end as kind,
        case when kind <> 'flow' then null when line.flow is null then json_transform(text, getvariable('flow_structure')) else line.flow end as flow
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
