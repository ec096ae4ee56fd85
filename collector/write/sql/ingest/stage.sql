-- The projected batch as a table, for a closer look; `copy` numbers the repetitions of one event inside the batch, the
-- finest time first. What has no uuid is never a repetition: fingerprint.sql tells equal events apart.
delete from staged;
insert into staged
select *, if(
    uuid is null, 1,
    row_number() over (partition by uuid, time order by position)
        + (time <> first_value(time) over finest_first and same_moment(time, first_value(time) over finest_first))::int
) as copy
from {projected}
window finest_first as (partition by uuid order by coarseness(time), time);
