-- What is not settled within reach of a stretch, in nanoseconds.
select coalesce(first_ns, epoch_ns({end})), coalesce(end_ns, epoch_ns({end}))
from unsettled_span(moved({first}, -reach_seconds()), moved({end}, reach_seconds()));
