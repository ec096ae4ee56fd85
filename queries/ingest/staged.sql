-- The span of the staged batch and what it holds.
select
    epoch_ns(min(time)) as first,
    epoch_ns(max(time)) as last,
    count(*) filter (problem is null) as good,
    count(*) filter (problem is null and uuid is null) as unnamed,
    count(problem) as broken
from staged;
