-- Stretches of time. Windows are in nanoseconds.

-- A time moved by some seconds; plain interval arithmetic would cut it to microseconds.
create or replace macro moved(moment, seconds) as
    make_timestamp_ns(epoch_ns(moment) + (seconds * 1e9)::bigint);

-- Events are read from this long before a window until this long after it: its connections' other ends are there.
create or replace macro read_from(since) as moved(since, -10);
create or replace macro read_to(until) as moved(until, 10);

-- The same for what is told once per slice: whole slices, at least one on each side.
create or replace macro slices_from(since) as make_timestamp_ns((slice_of(epoch_ns(since)) - 1) * slice_ns());
create or replace macro slices_to(until) as make_timestamp_ns((slice_of(epoch_ns(until)) + 2) * slice_ns());

-- The hours of a window and one on each side.
create or replace macro hours_from(since) as make_timestamp_ns((hour_of(epoch_ns(since)) - 1) * hour_ns());
create or replace macro hours_to(until) as make_timestamp_ns((hour_of(epoch_ns(until)) + 2) * hour_ns());

-- The stretch of the last run that brought or met flows.
create or replace view last_run as
select collection, first_flow as first_time, moved(last_flow, 0.000000001) as end_time
from collections
where first_flow is not null
qualify row_number() over (order by collection desc) = 1;

-- The window of a report: what was asked for, else the last run, else (whole) everything.
create or replace macro window_since(since, whole) as
    coalesce(since::timestamp_ns, if(whole, null, (select first_time from last_run)), make_timestamp_ns(0));

create or replace macro window_until(since, until, whole) as
    coalesce(until::timestamp_ns, if(whole or since is not null, null, (select end_time from last_run)), timestamp_ns '2262-01-01');

-- The first and last moment of a window in which there are flows, in nanoseconds; the last is not part of it.
create or replace macro window_seen(since := null::timestamp_ns, until := null::timestamp_ns, whole := false) as table
select epoch_ns(min(time)) as first_ns, epoch_ns(max(time)) + 1 as end_ns
from flows
where time >= window_since(since, whole) and time < window_until(since, until, whole);

-- The same as times; without any flow what was asked for.
create or replace macro window_bounds(since, until, whole) as table
select greatest(min(time), window_since(since, whole)) as first_time, least(moved(max(time), 1e-9), window_until(since, until, whole)) as end_time
from flows
where time >= window_since(since, whole) and time < window_until(since, until, whole);

-- Where the last second of what was read around a window begins: what left or arrived later may have its other end after
-- it.
create or replace macro last_second_ns(since, until) as
    (select max(epoch_ns(time)) - seconds_ns(1) from flows where time >= since and time < read_to(until));
