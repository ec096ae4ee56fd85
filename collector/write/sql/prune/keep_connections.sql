-- Store the connections of a stretch whose events are about to be forgotten. Table rows_done says how many.
create or replace temp table connections_kept as
select attempt + (select coalesce(max(attempt), 0) from kept_connections) as attempt, * exclude (attempt)
from connections_between({since}, {until});
insert into kept_connections by name from connections_kept;
create or replace temp table rows_done as select count(*) as connections from connections_kept;
drop table connections_kept;
