-- What the database holds, in one row: flows that are there, and the time of all of which something is known.
create or replace view status_summary as
with counted as materialized (
    select cluster, node, min(first_time) as first_time, max(last_time) as last_time
    from counts_asked(make_timestamp_ns(0), timestamp_ns '2262-01-01')
    group by all
)
select
    (select count(*) from flows) as flows,
    (select min(first_time) from counted) as first_flow,
    (select max(last_time) from counted) as last_flow,
    (select string_agg(cluster, ', ' order by cluster) from clusters) as clusters,
    (select count(*) from counted where node <> '') as nodes,
    (select events_total(num_events_lost) from lost_events) as lost_events,
    (select count(distinct (namespace, service)) from services) as services;
