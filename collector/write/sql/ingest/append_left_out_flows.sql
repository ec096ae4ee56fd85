-- That the other flows came.
insert into left_out_flows by name
select time, uuid, $1::uinteger as batch, cluster, node
from {source}
where {wanted};
