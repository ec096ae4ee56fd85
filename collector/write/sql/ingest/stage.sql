-- The projected batch as a table, for a closer look; `copy` numbers the repetitions of one event inside the batch. What has
-- no uuid is never a repetition: fingerprint.sql tells equal events apart.
delete from staged;
insert into staged
select *, if(uuid is null, 1, row_number() over (partition by uuid, time order by position)) as copy
from {projected};
