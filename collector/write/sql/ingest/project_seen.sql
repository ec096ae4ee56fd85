-- What flows have that are only looked at, as project.sql has it.
create or replace temp view projected_seen as
select
    position,
{seen}
from incoming_seen;
