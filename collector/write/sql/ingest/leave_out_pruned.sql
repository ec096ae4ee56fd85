-- What is older than the flows that are kept.
delete from staged where problem is null and time < make_timestamp_ns(?);
