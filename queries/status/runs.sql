-- The runs that filled the database, newest first.
create or replace view status_runs as
select collection as run, kind, started, state, received, stored, duplicate, filtered, undecodable, asked, excluded <> '' as own_traffic_left_out, first_flow, last_flow
from collections
order by collection desc;
