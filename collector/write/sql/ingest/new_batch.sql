insert into batches values ($batch, $collection, $origin, $reader);
