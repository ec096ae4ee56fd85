-- What is not settled, in nanoseconds.
select epoch_ns(first_time), epoch_ns(end_time) from unsettled_between(make_timestamp_ns(0), {until});
