-- Store the connections of a stretch whose events are about to be forgotten. Table rows_done says how many.
create or replace temp table rows_done as select count(*) as connections from kept_connections;
insert into kept_connections by name
from connections_between({since}, {until});
update rows_done set connections = (select count(*) from kept_connections) - connections;
