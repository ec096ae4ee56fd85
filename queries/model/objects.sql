-- Each seen state of an object until the next one. The first state is taken to hold since the object's creation, but is
-- only known from the moment it was seen.
create or replace view object_periods as
select
    cluster, kind, namespace, name, deleted, state,
    if(nth = 1 and created < seen_from, created, seen_from) as valid_from,
    valid_to,
    known_from
from (
    select
        *,
        valid_from as seen_from,
        row_number() over object as nth,
        lead(valid_from) over object as valid_to
    from kube_states
    window object as (partition by cluster, kind, namespace, name order by valid_from, deleted desc)
)
where valid_to is null or valid_to > seen_from;
