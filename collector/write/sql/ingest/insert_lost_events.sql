insert into lost_events by name
select * exclude (position), getvariable('reader') as reader, $batch as batch from staged_lost_events;
