-- The projected batch as a table; `copy` numbers the repetitions of one event inside the batch. What has no uuid is never
-- a repetition: fingerprint.sql tells equal events apart.
create or replace temp table staged as
select *, if(uuid is null, 1, row_number() over (partition by time, uuid, cluster, node)) as copy
from projected;
