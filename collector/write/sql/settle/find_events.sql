-- Find the events of a stretch in its flows, once: attempts are made of those. What lies around it, and is not settled, is found beside
-- them: the slices around it and, farther off, for as long as SYNs are repeated, what is told only once.
delete from events where time >= {kept} and time < {end};
insert into events by name
from deciding_flows({kept}, {end});
create or replace temp table events_beside as
from deciding_flows(greatest({open_first}, slices_from({first})), {kept})
union all by name
from deciding_flows({end}, least({open_end}, slices_to({end})))
union all by name
select * exclude (flow, repeats)
from every_deciding_flow({open_first}, {open_end})
where not repeats and (time < slices_from({first}) or time >= slices_to({end}));
