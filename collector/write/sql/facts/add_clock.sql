insert or replace into clocks by name
select $cluster as cluster, $node as node, $collection as collection, make_timestamp_ns($time) as time, $lag as lag_seconds;
