-- A batch in which every flow is new, as far as its flows are stored: nothing is looked up. Prepared once.
insert into flows by name
select * exclude (position, full_node_name, emitter_version, source_labels, source_workload, destination_labels, destination_workload, problem{more}),
    $1::uinteger as batch
from {source}
where {wanted};
