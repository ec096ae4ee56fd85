insert into batches
select coalesce(max(batch), 0) + 1, $collection, $origin, $reader from batches
returning batch;
