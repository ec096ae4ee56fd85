-- The span of the staged batch and what it holds.
select
    coalesce(epoch_ns(min(time)), 0) as first,
    coalesce(epoch_ns(max(time)), 0) as last,
    count(*) filter (problem is null) as good,
    count(*) filter (problem is null and uuid is null) as unnamed,
    count(problem) as broken
from staged;
