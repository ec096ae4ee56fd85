-- Until where each node is stored by readers that asked for the same.
select cluster || '/' || node, epoch_ns(max(until)) from positions where asked = $asked group by all;
