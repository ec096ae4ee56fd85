-- Of which times attempts are stored, and of which they have to be made of flows.

-- So far from an attempt an event may still count: a SYN is repeated for long, and events are read by whole slices.
create or replace macro reach_seconds() as 100;

-- Stretches whose attempts are stored and hold.
create or replace view settled as
from stretches s
where not exists (
    from late_flows l
    where l.first_time < moved(s.end_time, reach_seconds()) and l.last_time >= moved(s.first_time, -reach_seconds())
);

-- The rest of a window, as far as there are flows.
create or replace macro unsettled_between(since, until) as table
with
bounds as materialized (
    select greatest(min(first_time), since) as first_time, least(moved(max(last_time), 1e-9), until) as end_time
    from (
        select min(time) as first_time, max(time) as last_time from flows
        union all
        select min(time), max(time) from events -- where flows are pruned
        union all
        select min(time), max(time) from left_out_flows
    )
    having min(first_time) is not null
),
covered as materialized (
    from settled where end_time > since and first_time < until
),
holes as (
    select coalesce(lag(end_time) over (order by first_time), since) as first_time, first_time as end_time from covered
    union all
    select coalesce(max(end_time), since), until from covered
)
select greatest(h.first_time, b.first_time) as first_time, least(h.end_time, b.end_time) as end_time
from holes h
cross join bounds b
where greatest(h.first_time, b.first_time) < least(h.end_time, b.end_time)
order by 1;

-- From when to when, in nanoseconds, and from when on addresses are not stored; null where all is settled.
create or replace macro unsettled_span(since, until) as table
select
    epoch_ns(min(first_time)) as first_ns, epoch_ns(max(end_time)) as end_ns,
    (select epoch_ns(min(first_time)) from unsettled_between(hours_from(since), hours_to(until))) as told_ns
from unsettled_between(since, until);

-- Stored attempts of a window and, where unsettled stretches begin and end, those that flows give there. What flows tell of
-- addresses is read where it is not stored, from `told_since` until `told_until`.
create or replace macro attempts_pieced(since, until, open_since, open_until, told_since, told_until) as table
with
open as materialized (from unsettled_between(since, until))
select a.*
from attempts a
where a.time >= since and a.time < until and not exists (from open o where a.time >= o.first_time and a.time < o.end_time)
union all by name
select m.*
from attempts_made(open_since, open_until, told_since, told_until) m
where m.time >= since and m.time < until and exists (from open o where m.time >= o.first_time and m.time < o.end_time);

-- The attempts of a window.
create or replace macro attempts_between(since, until) as table
with span as materialized (
    select make_timestamp_ns(first_ns) as first_time, make_timestamp_ns(end_ns) as end_time, make_timestamp_ns(told_ns) as told_time
    from unsettled_span(since, until)
)
from attempts_pieced(
    since, until, (select first_time from span), (select end_time from span), (select told_time from span), hours_to(until)
);

-- The same for all who ask: here the table alone, as while nothing is left to make. Views that are bound to it are made in a
-- fifth of the time; then, and as soon as flows come in, attempts_between stands in its place (sql/read_all.sql), and while a
-- report asks several times what it has made once.
create or replace macro attempts_asked(since, until) as table from attempts where time >= since and time < until;

-- What objects say that attempts rest on, with the time in which it counts: frontends, backends, whose addresses are whose,
-- and nodes without agent.
create or replace view objects_of_attempts as
with first_seen as (
    select cluster, node, min(valid_from) as time from nodes group by all
)
select 'frontend' as kind, row(door, cluster, namespace, service, address, port, protocol)::varchar as key, valid_from, valid_end from frontends
union all
select 'backend', row(cluster, namespace, service, address, port, protocol, node)::varchar, min(valid_from), timestamp_ns '2262-01-01' from backends group by all
union all
select 'node', row(a.cluster, a.node, a.address)::varchar, coalesce(n.time, make_timestamp_ns(0)), timestamp_ns '2262-01-01'
from node_addresses a
left join first_seen n using (cluster, node)
union all
select 'range', row(r.cluster, r.node, r.first, r.last)::varchar, coalesce(n.time, make_timestamp_ns(0)), timestamp_ns '2262-01-01'
from node_ranges r
left join first_seen n using (cluster, node)
union all
select 'agentless', row(w.cluster, w.node)::varchar, coalesce(n.time, make_timestamp_ns(0)), timestamp_ns '2262-01-01'
from nodes_without_agent w
left join first_seen n using (cluster, node);

-- What of it has changed since attempts were made, and the times that it matters for.
create or replace view objects_changed as
with told as (
    (from objects_of_attempts except from objects_used)
    union all
    (from objects_used except from objects_of_attempts)
),
changed as (
    select kind, key, count(*) as states, min(valid_from) as first_from, max(valid_from) as last_from, min(valid_end) as first_end, max(valid_end) as last_end
    from told
    group by kind, key
)
select kind, key, first_from as first_time, last_end as end_time from changed where states = 1
union all
select kind, key, first_from, last_from from changed where states > 1 and first_from < last_from
union all
select kind, key, first_end, last_end from changed where states > 1 and first_end < last_end;
