-- Forget what is older than variable prune_before; states of objects stay where they still hold after it.
delete from flows where time < getvariable('prune_before');
-- The minute that is cut is counted anew, as far as it is settled.
set variable prune_counted = coalesce(
    (
        select least(minute_start(moved(getvariable('prune_before'), 60)), min(end_time)) from stretches
        where first_time < getvariable('prune_before') and end_time > getvariable('prune_before')
    ),
    getvariable('prune_before')
);
delete from flow_counts where first_time < getvariable('prune_counted');
insert into flow_counts by name
from flows_counted(getvariable('prune_before'), getvariable('prune_counted'));
delete from events where time < getvariable('prune_before');
delete from attempts where time < getvariable('prune_before');
delete from stretches where end_time <= getvariable('prune_before');
update stretches set first_time = getvariable('prune_before') where first_time < getvariable('prune_before');
delete from late_flows where last_time < getvariable('prune_before');
delete from known_addresses where hour < hour_of(epoch_ns(getvariable('prune_before'))) - 1;
delete from lost_events where time < getvariable('prune_before');
delete from node_status where time < getvariable('prune_before');
delete from replays where last < getvariable('prune_before');
delete from relay_nodes where time < getvariable('prune_before');
delete from batches where batch not in (select distinct batch from flows)
    and batch not in (select batch from lost_events) and batch not in (select batch from node_status)
    and batch not in (select batch from replays)
    and batch < (select max(batch) from batches);
delete from kube_states k
where exists (
    from kube_states later
    where later.cluster = k.cluster and later.kind = k.kind and later.namespace = k.namespace and later.name = k.name
        and later.valid_from > k.valid_from and later.valid_from < getvariable('prune_before')
);
delete from services where valid_to < getvariable('prune_before');
delete from backends where valid_to < getvariable('prune_before');
delete from nodes where valid_to < getvariable('prune_before');
delete from service_periods where valid_to < getvariable('prune_before');
