-- Forget the events before a moment, and what else tells of that time; reports rest on those from the mark on. Table rows_done
-- says how many there were.
create or replace temp table rows_done as select count(*) as events from events where time < {before};
delete from events where time < {before};
delete from attempts where time < {before};
delete from flow_counts where first_time < {before};
delete from stretches where end_time <= {before};
update stretches set first_time = {before} where first_time < {before};
delete from late_flows where last_time < {before};
delete from known_addresses where hour < hour_of(epoch_ns({before})) - 1;
delete from lost_events where time < {before};
delete from node_status where time < {before};
delete from replays where last < {before};
delete from relay_nodes where time < {before};
delete from batches where batch not in (select distinct batch from flows)
    and batch not in (select distinct batch from flow_counts)
    and batch not in (select batch from lost_events) and batch not in (select batch from node_status)
    and batch not in (select batch from replays)
    and batch < (select max(batch) from batches);
insert into kept values ('events', {mark})
on conflict do update set first_time = excluded.first_time;
