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

-- From when on a layer is kept: flows, the events that reports rest on, connections.
create or replace macro kept_since(of_layer) as (select coalesce(max(k.first_time), make_timestamp_ns(0)) from kept k where k.layer = of_layer);

-- What was asked for, else the last run, else (whole) everything.
create or replace macro window_asked(since, whole) as
    coalesce(since::timestamp_ns, if(whole, null, (select first_time from last_run)), make_timestamp_ns(0));

-- The window of a report: of what was asked for that of which events are kept.
create or replace macro window_since(since, whole) as greatest(window_asked(since, whole), kept_since('events'));

create or replace macro window_until(since, until, whole) as
    coalesce(until::timestamp_ns, if(whole or since is not null, null, (select end_time from last_run)), timestamp_ns '2262-01-01');
