-- What a Relay's ServerStatus said.
insert into relays by name
select
    make_timestamp_ns($time) as time, $reader as reader, $address as address, nullif($version, '') as version,
    $connected as connected, $unavailable as unavailable, $num_flows as num_flows, $max_flows as max_flows, $seen_flows as seen_flows,
    $uptime_ns as uptime_ns, $flows_rate as flows_rate, $expires::timestamp as certificate_expires, $collection as collection;
