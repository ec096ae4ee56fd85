-- The objects of these clusters were watched until $at nanoseconds.
insert into watches
select unnest($clusters::varchar[]) as cluster, make_timestamp_ns($at) as until
on conflict do update set until = greatest(watches.until, excluded.until);
