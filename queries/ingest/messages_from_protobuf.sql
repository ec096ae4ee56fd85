-- Messages as the protobuf decoder gives them.
create or replace temp view messages as
select
    *,
    case
        when flow is not null then 'flow' when lost_events is not null then 'lost_events' when node_status is not null then 'node_status'
        else 'other'
    end as kind
from incoming;
