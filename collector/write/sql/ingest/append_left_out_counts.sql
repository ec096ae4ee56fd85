-- How many other flows there were, and with what in them.
insert into left_out_counts by name
with left_out as (
    select *, $1::uinteger as batch from {source} where {wanted}
)
from counts_of('left_out');
