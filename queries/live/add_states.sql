-- States of Kubernetes objects; times are nanoseconds.
insert or ignore into kube_states by name
select
    cluster, kind, namespace, name, uid, make_timestamp_ns(valid_from) as valid_from, make_timestamp_ns(known_from) as known_from,
    deleted, try_cast(created as timestamp_ns) as created, state::json as state
from (
    select unnest($rows::struct(
        cluster varchar, kind varchar, namespace varchar, name varchar, uid varchar, created varchar, state varchar,
        valid_from bigint, known_from bigint, deleted boolean
    )[], recursive := true)
);
