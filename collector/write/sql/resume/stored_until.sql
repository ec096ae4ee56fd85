-- The last stored flow of a node before a moment.
select epoch_ns(max(time)) from flows_seen where time < make_timestamp_ns($before) and cluster = $cluster and node = $node;
