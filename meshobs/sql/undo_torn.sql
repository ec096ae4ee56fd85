-- DuckDB 1.5 takes whole row groups out of a log that was torn before its commit (kill -9 in the last moments of writing
-- it), and leaves out the rest of that transaction. Each transaction has batches of its own: flows of one that is not
-- listed were never committed.
delete from flows
where batch not in (select batch from batches) and exists (from collections where state = 'running');
delete from left_out_flows
where batch not in (select batch from batches) and exists (from collections where state = 'running');
delete from left_out_counts
where batch not in (select batch from batches) and exists (from collections where state = 'running');
