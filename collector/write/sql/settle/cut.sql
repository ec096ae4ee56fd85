-- Where to cut an unsettled stretch so that about so many flows lie in each piece: the end of each, in nanoseconds, and the
-- flows until then.
with counted as (
    select slice_of(epoch_ns(time)) as slice, sum(flows) as flows
    from (
        select time, 1 as flows from flows where time >= {first} and time < {end}
        union all
        -- Where flows are pruned, about one of eight decided.
        select time, 8 from events where time >= {first} and time < least({end}, kept_since('flows'))
    )
    group by slice
),
summed as (
    select slice, (sum(flows) over (order by slice))::ubigint as flows from counted
)
select max((slice + 1) * slice_ns()) as end_ns, max(flows) as flows
from summed
group by (flows - 1) // {rows}
order by end_ns;
