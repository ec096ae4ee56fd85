insert into gaps by name
select
    $cluster as cluster, $node as node, $reader as reader, make_timestamp_ns($first) as first_time, make_timestamp_ns($end) as end_time,
    $reason as reason, $collection as collection;
