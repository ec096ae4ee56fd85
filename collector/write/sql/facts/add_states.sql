-- States of Kubernetes objects; times are nanoseconds. What a first list shows is taken to hold from a little before it;
-- where an earlier run watched the object, it may have changed at any time since that run ended.
insert or ignore into kube_states by name
with told as (
    select unnest(from_json_strict($rows, '[{
        "cluster": "varchar", "kind": "varchar", "namespace": "varchar", "name": "varchar", "uid": "varchar",
        "created": "varchar", "state": "varchar", "valid_from": "bigint", "known_from": "bigint", "deleted": "boolean"
    }]'), recursive := true)
)
select
    t.cluster, kind, namespace, name, uid,
    make_timestamp_ns(if(
        known_from > valid_from and exists (
            from kube_states k
            where (k.cluster, k.kind, k.namespace, k.name) = (t.cluster, t.kind, t.namespace, t.name) and k.valid_from < w.until
        ),
        greatest(epoch_ns(w.until), epoch_ns(try_cast(created as timestamp_ns))),
        valid_from
    )) as valid_from,
    make_timestamp_ns(known_from) as known_from,
    deleted, try_cast(created as timestamp_ns) as created, state::json as state
from told t
left join watches w on w.cluster = t.cluster and $first_list;
