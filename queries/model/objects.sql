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

-- Services whose backends a cluster's EndpointSlices tell: one of theirs was seen, or the slice of the API server itself, which
-- comes with a list of all. Where no slice was ever seen nothing says that there are none.
create or replace view known_slices as
with slices as (
    select distinct cluster, namespace, state ->> 'service' as service from kube_states where kind = 'EndpointSlice'
)
select s.cluster, s.namespace, s.service
from (select distinct cluster, namespace, service from services) s
where exists (from slices k where k.cluster = s.cluster and (k.namespace = s.namespace and k.service = s.service or k.namespace = 'default' and k.service = 'kubernetes'));

-- Which namespaces a cluster offers services of, from Cilium 1.19 on: the Namespace's annotation, else what cilium-config says,
-- else all. `doubtful` where one of them was not seen.
create or replace view global_namespaces as
with
defaults as (
    select cluster, arg_max(state ->> 'global_namespaces', valid_from) as by_default
    from kube_states where kind = 'ConfigMap'
    group by all
),
versions as (
    select cluster, max(version_rank(version)) as newest from node_versions group by all
),
known as (
    select distinct
        s.cluster, s.namespace, d.cluster is not null as config_seen, lower(coalesce(nullif(d.by_default, ''), 'true')) = 'true' as by_default,
        coalesce(v.newest < version_rank('1.19.0'), false) as before
    from services s
    left join defaults d using (cluster)
    left join versions v using (cluster)
)
select
    k.cluster, k.namespace,
    k.before or coalesce(nullif(n.state ->> 'global', '') = 'true', k.by_default or n.state is null) as "global",
    not k.before and (n.state is null or (n.state ->> 'global') = '' and not k.config_seen) as doubtful,
    coalesce(n.valid_from, make_timestamp_ns(0)) as valid_from, coalesce(n.valid_to, timestamp_ns '2262-01-01') as valid_end
from known k
left join object_periods n on n.kind = 'Namespace' and n.cluster = k.cluster and n.name = k.namespace and not n.deleted;

-- Clusters in which a namespace may not be global: Cilium 1.19 knows it (managed ones use it there, 1.20 documents it). Of a
-- cluster whose version is not known the newest of the others is assumed; where none is known it may be any.
create or replace view clusters_with_namespaces as
with newest as (
    select c.cluster, max(version_rank(v.version)) as version from clusters c left join node_versions v using (cluster) group by all
)
select cluster from newest where coalesce(version, (select max(version) from newest), version_rank('1.19.0')) >= version_rank('1.19.0');
