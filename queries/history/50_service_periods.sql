-- What held for clients of one cluster at one frontend: a row is a stretch in which neither the setting nor any backend that
-- counts changed. local_backends and remote_backends are those that could be used: of the frontend's family of addresses and
-- of its port's name, by which Cilium merges the backends of all clusters (a port without a name takes any:
-- DefaultSelectBackends in pkg/loadbalancer/writer). A backend is an address with a port. hidden_backends are active elsewhere
-- under the same name, but not offered (not global there, or not shared, or in a namespace that is not global).
delete from service_periods;
insert into service_periods by name
with changes as (
    select namespace, service, valid_from as changed_at from services
    union select namespace, service, valid_to from services where valid_to is not null
    union select namespace, service, valid_from from backends
    union select namespace, service, valid_to from backends where valid_to is not null
    union select s.namespace, s.service, n.valid_from from global_namespaces n join services s using (cluster, namespace)
),
-- trafficDistribution narrows the choice where slices carry hints and the agents read them (enable-service-topology).
hinted as materialized (
    select distinct cluster, namespace, state ->> 'service' as service
    from kube_states
    where kind = 'EndpointSlice' and (state ->> 'hinted')::boolean and cluster not in (
        select cluster from kube_states where kind = 'ConfigMap' group by cluster having arg_max(state ->> 'service_topology', valid_from) = 'false'
    )
),
stretches as (
    select
        s.cluster, s.namespace, s.service, c.changed_at as valid_from, s.valid_to as service_to,
        s."global", s.shared, s.affinity, s.session_affinity, s.internal_traffic_policy, if(h.service is null, '', s.traffic_distribution) as traffic_distribution, s.known_from, s.ports, s.addresses
    from changes c
    join services s
        on s.namespace = c.namespace and s.service = c.service
        and s.valid_from <= c.changed_at and (s.valid_to is null or s.valid_to > c.changed_at)
    left join hinted h on h.cluster = s.cluster and h.namespace = s.namespace and h.service = s.service
),
-- A service without an address of its own has backends of whatever family its pods have.
families as (
    select namespace, service, list_sort(list(distinct address_family(address))) as families from backends group by all
),
frontends_of as materialized (
    select
        * exclude (ports, families, port), port.name as port_name, port.protocol as protocol, port.port as port,
        unnest(families) as family, len(families) * ports as frontends
    from (
        select
            t.* exclude (addresses, ports), unnest(coalesce(nullif(t.ports, []), [{'name': '', 'protocol': 'TCP', 'port': null, 'node_port': null}])) as port, greatest(1, len(t.ports)) as ports,
            coalesce(nullif(list_sort(list_distinct(list_transform(t.addresses, lambda address: address_family(address)))), []), f.families, ['IPv4']) as families
        from stretches t
        left join families f using (namespace, service)
    )
),
-- The clusters that have the service, and what is known of each at a time.
offers as materialized (
    select
        t.cluster, t.namespace, t.service, t.valid_from, r.cluster as owner,
        r.cluster = t.cluster as own,
        t."global" and r."global" and r.shared as offered,
        coalesce(n."global", true) as namespace_global, coalesce(n.doubtful, false) as doubtful,
        k.service is not null as known
    from stretches t
    join services r
        on r.namespace = t.namespace and r.service = t.service
        and r.valid_from <= t.valid_from and (r.valid_to is null or r.valid_to > t.valid_from)
    left join global_namespaces n
        on n.cluster = r.cluster and n.namespace = r.namespace and n.valid_from <= t.valid_from and n.valid_end > t.valid_from
    left join known_slices k on k.cluster = r.cluster and k.namespace = r.namespace and k.service = r.service
),
-- Backends of a cluster without the service itself are hidden, too.
active as materialized (
    select
        t.cluster, t.namespace, t.service, t.valid_from, b.cluster as owner, b.node, b.address, b.port, b.port_name, b.protocol,
        address_family(b.address) as family, b.known_from,
        case
            when b.cluster = t.cluster then 'local'
            when o.offered and o.namespace_global then 'remote'
            else 'hidden'
        end as side
    from stretches t
    join backends b
        on b.namespace = t.namespace and b.service = t.service and b.ready and not b.terminating
        and b.valid_from <= t.valid_from and (b.valid_to is null or b.valid_to > t.valid_from)
    left join offers o
        on o.cluster = t.cluster and o.namespace = t.namespace and o.service = t.service and o.valid_from = t.valid_from and o.owner = b.cluster
),
reached as materialized (
    select f.cluster, f.namespace, f.service, f.valid_from, f.port_name, f.protocol, f.family, a.owner, a.node, a.address, a.port, a.known_from, a.side
    from frontends_of f
    join active a
        on a.cluster = f.cluster and a.namespace = f.namespace and a.service = f.service and a.valid_from = f.valid_from
        and a.protocol = f.protocol and a.family = f.family and (a.port_name = f.port_name or a.port_name = '' or f.port_name = '')
),
counted as (
    select
        cluster, namespace, service, valid_from, port_name, protocol, family,
        count(distinct (address, port)) filter (side = 'local') as local_backends,
        count(distinct (address, port)) filter (side = 'remote') as remote_backends,
        count(distinct (address, port)) filter (side = 'hidden') as hidden_backends,
        list_sort(list(distinct concat_ws(' ', side, owner, coalesce(node, ''), address, port))) as backend_set,
        if(bool_or(known_from is null), null, max(known_from)) as backends_known_from,
        count(*) as backend_rows
    from reached
    group by all
),
by_node as (
    select cluster, namespace, service, valid_from, port_name, protocol, family, map_from_entries(list((node, backends) order by node)) as local_nodes
    from (
        select cluster, namespace, service, valid_from, port_name, protocol, family, node, count(distinct (address, port))::uinteger as backends
        from reached
        where side = 'local' and node is not null
        group by all
    )
    group by all
),
by_cluster as (
    select cluster, namespace, service, valid_from, port_name, protocol, family, map_from_entries(list((owner, backends) order by owner)) as remote_clusters
    from (
        select cluster, namespace, service, valid_from, port_name, protocol, family, owner, count(distinct (address, port))::uinteger as backends
        from reached
        where side = 'remote'
        group by all
    )
    group by all
),
-- Clusters that share active backends of the family under other names of ports only.
misnamed as (
    select f.cluster, f.namespace, f.service, f.valid_from, f.port_name, f.protocol, f.family, list_sort(list(distinct a.owner)) as misnamed_backends
    from frontends_of f
    join active a
        on a.cluster = f.cluster and a.namespace = f.namespace and a.service = f.service and a.valid_from = f.valid_from
        and a.family = f.family and a.side = 'remote'
    anti join reached r
        on r.cluster = f.cluster and r.namespace = f.namespace and r.service = f.service and r.valid_from = f.valid_from
        and r.port_name = f.port_name and r.protocol = f.protocol and r.family = f.family and r.owner = a.owner
    group by all
),
doubts as (
    select
        cluster, namespace, service, valid_from,
        list_sort(list(distinct owner) filter (not known and (own or offered and namespace_global))) as unknown_backends,
        list_sort(list(distinct owner) filter (not own and offered and not namespace_global)) as closed_clusters,
        list_sort(list(distinct owner) filter (not own and offered and doubtful)) as doubtful_clusters
    from offers
    group by all
),
states as (
    select
        f.*,
        coalesce(c.local_backends, 0) as local_backends, coalesce(c.remote_backends, 0) as remote_backends,
        coalesce(c.hidden_backends, 0) as hidden_backends, coalesce(c.backend_set, []) as backend_set,
        coalesce(n.local_nodes, map()::map(varchar, uinteger)) as local_nodes, coalesce(r.remote_clusters, map()::map(varchar, uinteger)) as remote_clusters,
        coalesce(d.unknown_backends, []) as unknown_backends, coalesce(d.closed_clusters, []) as closed_clusters, coalesce(d.doubtful_clusters, []) as doubtful_clusters,
        coalesce(m.misnamed_backends, []) as misnamed_backends,
        if(c.backend_rows is null, f.known_from, if(f.known_from is null or c.backends_known_from is null, null, greatest(f.known_from, c.backends_known_from))) as state_known_from,
        coalesce(lead(f.valid_from) over (partition by f.cluster, f.namespace, f.service, f.port_name, f.protocol, f.family, f.service_to order by f.valid_from), f.service_to) as stretch_to
    from frontends_of f
    left join counted c using (cluster, namespace, service, valid_from, port_name, protocol, family)
    left join by_node n using (cluster, namespace, service, valid_from, port_name, protocol, family)
    left join by_cluster r using (cluster, namespace, service, valid_from, port_name, protocol, family)
    left join misnamed m using (cluster, namespace, service, valid_from, port_name, protocol, family)
    left join doubts d using (cluster, namespace, service, valid_from)
),
turns as (
    select *, count(*) filter (changed) over (partition by cluster, namespace, service, port_name, protocol, family order by valid_from) as turn
    from (
        select
            *,
            (
                "global", shared, affinity, session_affinity, internal_traffic_policy, traffic_distribution, port, frontends, backend_set,
                unknown_backends, misnamed_backends, closed_clusters, doubtful_clusters, valid_from
            ) is distinct from (
                lag("global") over one, lag(shared) over one, lag(affinity) over one, lag(session_affinity) over one,
                lag(internal_traffic_policy) over one, lag(traffic_distribution) over one, lag(port) over one, lag(frontends) over one, lag(backend_set) over one,
                lag(unknown_backends) over one, lag(misnamed_backends) over one, lag(closed_clusters) over one, lag(doubtful_clusters) over one, lag(stretch_to) over one
            ) as changed
        from states
        window one as (partition by cluster, namespace, service, port_name, protocol, family order by valid_from)
    )
),
periods as (
    select
        cluster, namespace, service, port_name, protocol, any_value(port) as port, family, any_value(frontends)::uinteger as frontends,
        any_value(if(not "global", 'not-global', affinity)) as setting,
        any_value(shared) as shared, any_value(session_affinity) as session_affinity, any_value(internal_traffic_policy) as internal_traffic_policy,
        any_value(traffic_distribution) as traffic_distribution,
        any_value(local_backends)::uinteger as local_backends, any_value(remote_backends)::uinteger as remote_backends,
        any_value(hidden_backends)::uinteger as hidden_backends,
        any_value(local_nodes) as local_nodes, any_value(remote_clusters) as remote_clusters, any_value(unknown_backends) as unknown_backends,
        any_value(misnamed_backends) as misnamed_backends, any_value(closed_clusters) as closed_clusters, any_value(doubtful_clusters) as doubtful_clusters,
        min(valid_from) as valid_from, if(bool_or(stretch_to is null), null, max(stretch_to)) as valid_to,
        arg_min(state_known_from, valid_from) as known_from
    from turns
    group by cluster, namespace, service, port_name, protocol, family, turn
),
settings as (
    select *, count(*) filter (changed) over (partition by cluster, namespace, service, port_name, protocol, family order by valid_from) as run
    from (
        select *, (setting, shared, valid_from) is distinct from (lag(setting) over one, lag(shared) over one, lag(valid_to) over one) as changed
        from periods
        window one as (partition by cluster, namespace, service, port_name, protocol, family order by valid_from)
    )
)
select
    * exclude (changed, run),
    min(valid_from) over run as setting_from,
    if(bool_or(valid_to is null) over run, null, max(valid_to) over run) as setting_to
from settings
window run as (partition by cluster, namespace, service, port_name, protocol, family, run)
order by cluster, namespace, service, port_name, protocol, family, valid_from;
