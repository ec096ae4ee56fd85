insert into node_status by name
select * exclude (position), getvariable('reader') as reader, $batch as batch from staged_node_status;
