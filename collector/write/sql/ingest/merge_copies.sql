-- Where times are rounded, copies of one event may differ in them: the one with the finest time stays the first.
update staged
set copy = copy + 1
from (
    select position, time, first_value(time) over (partition by uuid order by coarseness(time), time) as finest
    from staged
    where uuid is not null
) as rounded
where staged.position = rounded.position and rounded.time <> rounded.finest and same_moment(rounded.time, rounded.finest);
