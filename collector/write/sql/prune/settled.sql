-- Until when all is settled, in nanoseconds: flows that are still to come may count for the last of it, and of a time of which
-- nothing was stored yet all may still come.
select least(
    coalesce(min(epoch_ns(moved(first_time, -reach_seconds()))), epoch_ns(timestamp_ns '2262-01-01')),
    (
        select coalesce((minute_of(epoch_ns(max(last_time))) + 1) * 60_000_000_000, 0)
        from (select max(time) as last_time from flows union all select max(last_time) from flow_counts)
    )
)
from unsettled_between(make_timestamp_ns(0), timestamp_ns '2262-01-01');
