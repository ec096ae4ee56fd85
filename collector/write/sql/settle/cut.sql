-- Where to cut an unsettled stretch so that about so many flows lie in each piece: the end of each, in nanoseconds, and the
-- flows until then.
with counted as (
    select slice_of(epoch_ns(time)) as slice, count(*) as flows
    from flows
    where time >= {first} and time < {end}
    group by slice
),
summed as (
    select slice, (sum(flows) over (order by slice))::ubigint as flows from counted
)
select max((slice + 1) * slice_ns()) as end_ns, max(flows) as flows
from summed
group by (flows - 1) // {rows}
order by end_ns;
