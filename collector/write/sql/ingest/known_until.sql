-- Until where each node's flows are stored.
select cluster || '/' || node, epoch_ns(max(time)) from flows group by all;
