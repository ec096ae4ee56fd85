-- Forget the flows before a moment; what is made of them stays. Table rows_done says how many.
insert into gaps
select cluster, node, '', first_time, end_time, 'told by flows that are pruned', (select max(collection) from collections)
from gaps_told(make_timestamp_ns(0), timestamp_ns '2262-01-01')
where first_time < {before};
create or replace temp table rows_done as select count(*) as flows from flows where time < {before};
delete from flows where time < {before};
delete from left_out_flows where time < {before};
delete from left_out_counts where first_time < {before};
insert into kept values ('flows', {before})
on conflict do update set first_time = excluded.first_time;
