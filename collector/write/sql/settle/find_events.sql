-- The events that a stretch is made of: its own, those of the slices around it, and farther off what is told only once, for as
-- long as SYNs are repeated. What is settled or pruned is stored; the rest is found here, so that flows are read once.
create or replace temp table events_found as
from events
where time >= moved({first}, -reach_seconds()) and time < moved({end}, reach_seconds())
    and (time < {open_first} or time >= {open_end})
union all by name
from deciding_flows(greatest({open_first}, slices_from({first})), least({open_end}, slices_to({end})))
union all by name
select * exclude (repeats)
from flows_deciding({open_first}, {open_end})
where not repeats and (time < slices_from({first}) or time >= slices_to({end}));
