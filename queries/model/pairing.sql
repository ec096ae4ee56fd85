-- Calls and the attempts that came of them, put together by nothing but time.

-- How much later than its call an attempt may be stamped; clocks and agents let it be stamped earlier, too.
create or replace macro follows_call(later_ns) as later_ns between -seconds_ns(0.2) and seconds_ns(2);

-- Pairs that are nearest to each other: each event takes the other kind that came last before it. `line` is the name of a
-- relation (key, ns, is_attempt, id); only events of one key are put together.
create or replace macro nearest_pairs(line) as table
with neighbours as (
    select
        if(is_attempt, id, last_value(if(is_attempt, id, null) ignore nulls) over before) as attempt,
        if(is_attempt, last_value(if(is_attempt, null, id) ignore nulls) over before, id) as call,
        if(is_attempt, ns, last_value(if(is_attempt, ns, null) ignore nulls) over before)
            - if(is_attempt, last_value(if(is_attempt, null, ns) ignore nulls) over before, ns) as later
    from query_table(line)
    window before as (partition by key order by ns, is_attempt, id rows between unbounded preceding and 1 preceding)
)
select attempt, call, later
from neighbours
where follows_call(later)
qualify row_number() over (partition by attempt order by abs(later), call) = 1
    and row_number() over (partition by call order by abs(later), attempt) = 1;

-- What pairs left of a line. Both are names of relations.
create or replace macro unpaired(line, pairs) as table
from query_table(line)
anti join (
    select attempt as id, true as is_attempt from query_table(pairs) union all select call, false from query_table(pairs)
) using (id, is_attempt);

-- Bursts: events are taken in the order of time, until a pause of both kinds ends the burst. `line` as of nearest_pairs.
create or replace macro pairs_in_order(line) as table
with
bursts as (
    select *, count(*) filter (paused) over (partition by key order by ns, id) as burst
    from (
        select *, coalesce(ns - lag(ns) over (partition by key order by ns, id) > seconds_ns(2.2), false) as paused
        from query_table(line)
    )
),
ranked as materialized (
    select *, row_number() over (partition by key, burst, is_attempt order by ns, id) as nth from bursts
)
select a.id as attempt, c.id as call, a.ns - c.ns as later
from ranked a
join ranked c using (key, burst, nth)
where a.is_attempt and not c.is_attempt and follows_call(later);

-- Calls and attempts on one line of time: the nearest (`sure`), then the nearest of what those left, then bursts in order.
-- `line` as of nearest_pairs.
create or replace macro paired_calls(line) as table
with
nearest as materialized (from nearest_pairs(line)),
nearest_left as materialized (from unpaired(line, 'nearest')),
second_nearest as materialized (from nearest_pairs('nearest_left')),
burst_left as materialized (from unpaired('nearest_left', 'second_nearest'))
select *, true as sure from nearest
union all
select *, false from second_nearest
union all
select *, false from pairs_in_order('burst_left');

-- What a balancer takes to pass a call on, as clocks and agents stamp it.
create or replace macro at_once(later_ns) as later_ns between -seconds_ns(0.2) and seconds_ns(0.1);

-- Outside addresses from which calls come in that follow calls to them more closely than chance would have it. Parameters
-- are names of relations: what left toward them (destination, ns), what came from them (attempt, client_address), and
-- pairs of both (destination, later).
--   by_clock:          the calls left at an even pace of seconds
create or replace macro turning_rates(outward, callers, pairs) as table
with
-- The middle nine tenths of the lags: an agent stamps some event tens of milliseconds late.
spans as (
    select
        destination, least(quantile_disc(later, 0.05), 0) as earliest, greatest(quantile_disc(later, 0.95), seconds_ns(0.001)) as latest
    from query_table(pairs)
    where at_once(later)
    group by destination
),
lags as (
    select destination, count(*) as close, any_value(earliest) as earliest, any_value(latest) as latest
    from query_table(pairs)
    join spans using (destination)
    where later between earliest and latest
    group by destination
),
paces as (
    select destination, ns, lead(ns) over (partition by destination order by ns) - ns as pause from query_table(outward)
),
-- The share of the time in which a call that has nothing to do with them would seem to follow one.
chances as (
    select
        destination, l.close,
        sum(least(p.pause, l.latest - l.earliest)) / sum(p.pause) as chance,
        avg(p.pause) >= seconds_ns(2) and stddev_pop(p.pause) < 0.1 * avg(p.pause) as by_clock
    from paces p
    join lags l using (destination)
    where p.pause is not null
    group by all
)
select c.destination, c.by_clock
from chances c
join (select client_address as destination, count(*) as calls from query_table(callers) group by all) n using (destination)
where c.chance > 0 and c.close > n.calls * c.chance
    -- The lags were chosen to fit: as many tries as calls.
    and n.calls * binomial_test(c.close, n.calls, c.chance) < 1e-4;
