-- Objects that an earlier run knew and that were gone when this one first listed their kind, at $at nanoseconds.
insert or ignore into kube_states by name
with latest as (
    from kube_states
    where cluster = $cluster and list_contains($kinds, kind)
    qualify row_number() over (partition by kind, namespace, name order by valid_from desc, deleted desc) = 1
)
select
    cluster, kind, namespace, name, uid, created, state, true as deleted,
    greatest(coalesce((select until from watches where cluster = $cluster), make_timestamp_ns($at)), latest.valid_from) as valid_from,
    make_timestamp_ns($at) as known_from
from latest
where not deleted and not list_contains(from_json_strict($seen, '["varchar"]'), kind || '/' || namespace || '/' || name) and latest.valid_from < make_timestamp_ns($at);
