-- Where to cut a stretch, at whole minutes, so that about so many attempts lie in each piece: the end of each, in nanoseconds.
with counted as (
    select minute_of(epoch_ns(time)) as minute, count(*) as attempts
    from attempts
    where time >= {since} and time < {until}
    group by minute
),
summed as (
    select minute, (sum(attempts) over (order by minute))::ubigint as attempts from counted
)
select (max(minute) + 1) * 60_000_000_000
from summed
group by (attempts - 1) // {rows}
order by 1;
