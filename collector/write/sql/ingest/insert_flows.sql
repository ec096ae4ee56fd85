-- The staged events that the store does not have yet. The same event has the same time, so only that stretch is read.
insert into flows by name
select staged.* exclude (position, full_node_name, emitter_version, source_labels, source_workload, destination_labels, destination_workload, problem, copy),
    $batch as batch
from staged
where problem is null and copy = 1
    and not exists (
        from flows
        where flows.time between make_timestamp_ns($first) and make_timestamp_ns($last)
            and flows.time = staged.time and flows.uuid = staged.uuid and flows.node = staged.node and flows.cluster = staged.cluster
    );
