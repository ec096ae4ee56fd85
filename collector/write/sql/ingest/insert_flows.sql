-- The staged events that the store does not have yet: none with that uuid and that time, as far as a pipeline has left both
-- the time's digits. Only the stretch in which the same event can be is read.
insert into flows by name
select staged.* exclude (position, full_node_name, emitter_version, source_labels, source_workload, destination_labels, destination_workload, problem, copy),
    $batch as batch
from staged
where problem is null and copy = 1
    and not exists (
        from flows
        where flows.time between make_timestamp_ns($first) and make_timestamp_ns($last) and flows.uuid = staged.uuid
            and same_moment(flows.time, staged.time)
    );
