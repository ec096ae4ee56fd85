-- The last time of each node in the staged batch.
select cluster || '/' || node, epoch_ns(max(time)) from staged where problem is null group by all;
