-- One phase of an experiment; times are nanoseconds.
insert into phases by name
select
    $experiment as experiment, $phase as phase, make_timestamp_ns($started) as started, make_timestamp_ns($ended) as ended,
    map_from_entries($settings::struct(k varchar, v varchar)[]) as settings;
