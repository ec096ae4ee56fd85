-- Flows before a moment are pruned: what decides, and how many there were, is stored.
create or replace macro events_asked(since, until) as table
from events where time >= since and time < least(until, {since})
union all by name
from flows where time >= greatest(since, {since}) and time < until;
create or replace macro counts_asked(since, until) as table
from flow_counts where first_time >= since and first_time < least(until, {since})
union all by name
from flows_counted(greatest(since, {since}), until);
