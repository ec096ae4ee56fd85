-- What the database holds, in one row: flows that are there, and the time of all of which something is known.
create or replace view status_summary as
select
    (select count(*) from flows) as flows,
    (select min(first_time) from counts_asked(make_timestamp_ns(0), timestamp_ns '2262-01-01')) as first_flow,
    (select max(last_time) from counts_asked(make_timestamp_ns(0), timestamp_ns '2262-01-01')) as last_flow,
    (select string_agg(cluster, ', ' order by cluster) from clusters) as clusters,
    (select count(*) from (select distinct cluster, node from counts_asked(make_timestamp_ns(0), timestamp_ns '2262-01-01') where node <> '')) as nodes,
    (select events_total(num_events_lost) from lost_events) as lost_events,
    (select count(distinct (namespace, service)) from services) as services;
