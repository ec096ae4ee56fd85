-- Until when all is settled, in nanoseconds; flows that are still to come may count for the last of it.
select coalesce(min(epoch_ns(moved(first_time, -reach_seconds()))), epoch_ns(timestamp_ns '2262-01-01'))
from unsettled_between(make_timestamp_ns(0), timestamp_ns '2262-01-01');
