-- What the database holds, in one row.
create or replace view status_summary as
select
    (select count(*) from flows) as flows,
    (select min(time) from flows) as first_flow,
    (select max(time) from flows) as last_flow,
    (select string_agg(cluster, ', ' order by cluster) from clusters) as clusters,
    (select count(*) from (select distinct cluster, node from flows where node <> '')) as nodes,
    (select events_total(num_events_lost) from lost_events) as lost_events,
    (select count(distinct (namespace, service)) from services) as services;
