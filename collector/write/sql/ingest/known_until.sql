-- Until where each node's flows are stored; under the default cluster also those of nodes that got their cluster later
-- (queries/history/35_observers.sql).
select name, epoch_ns(max(time))
from (
    select unnest([cluster || '/' || node, 'default/' || node]) as name, max(time) as time
    from flows_seen
    group by cluster, node
)
group by name;
