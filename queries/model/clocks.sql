-- How far two nodes' clocks are apart: the median over connections whose ports tell both ends apart from all others. A
-- positive number says that the first node's clock is ahead. The two ends of one connection are at most 0.2 s apart.
create or replace macro clock_pairs(since, until) as table
with left_at as (
    select any_value(cluster || '/' || node) as node, any_value(ns) as ns, protocol, source_port, destination, destination_port
    from departures(since, until)
    where source_port is not null
    group by protocol, source_port, destination, destination_port
    having count(*) = 1
),
came_at as (
    select any_value(cluster || '/' || node) as node, any_value(ns) as ns, protocol, source_port, destination, destination_port
    from arrivals(since, until)
    where source_port is not null
    group by protocol, source_port, destination, destination_port
    having count(*) = 1
),
both_ends as (
    select l.node as left_node, c.node as came_node, (l.ns - c.ns) / 1e9 as seconds
    from left_at l
    join came_at c using (protocol, source_port, destination, destination_port)
    where l.node <> c.node
)
select node, other, median(seconds) as seconds, count(*) as connections
from (
    select left_node as node, came_node as other, seconds from both_ends
    union all
    select came_node, left_node, -seconds from both_ends
)
group by all
having count(*) >= 3;

-- Nodes whose clocks a live collection found to differ from its own: more than a Relay's sorting explains.
create or replace macro clocks_apart(since, until) as table
select cluster, node, max(if(lag_seconds > 3, -lag_seconds, -least(lag_seconds, 0))) as ahead_seconds
from clocks c
join collections r using (collection)
where (c.lag_seconds > 3 or c.lag_seconds < -0.5) and r.first_flow < until and r.last_flow >= since
group by all;

-- Seconds by which any two clocks are apart, 0 where they are as close as one clock would be.
create or replace macro clock_skew(since, until) as greatest(
    (select coalesce(max(seconds) filter (seconds > 0.5), 0) from clock_pairs(since, until)),
    (select coalesce(max(abs(ahead_seconds)), 0) from clocks_apart(since, until))
);
