-- Connections that a service led to, or may have led to, with what held for the client's cluster at that moment.
-- Proven direct calls, NodePort calls and clients that are no pods are not here.
--   proved:   the door is known to be the service's; else exactly one service of the client's cluster leads to that backend
--   rivals:   several services, or ports of one, lead to that backend and nothing tells which was called: one row for each
--   port:     which of a service's ports, empty where it has one only; all that lead to that backend where nothing tells which
--             was called and all have the same backends: that is no rivalry
--   settled:  no change of setting or backends from 2 s before to 0.2 s after; a change takes up to 0.7 s to reach the
--             datapath. Clocks that are apart widen this by as much.
--   assumed:  the state in force is known only from a later look
create or replace macro service_calls_between(since, until) as table
with
calls as materialized (
    select attempt,
        -- Where the backend cannot be seen to receive, what left for it is a call.
        if(outcome <> 'refused' and unseen is not null, 'arrived', outcome) as outcome, unseen, time, ns, client_ns, protocol, client_cluster, client_node_cluster, client_node, client_namespace, client_pod, client_address, client_port,
        server_cluster, server_node, server_namespace, server_pod, server_address, server_port, door, door_namespace, door_service, door_port, translation, seen_identity, drop_reason,
        arrival_uuid, arrival_time, arrival_seen_by, departure_uuid, departure_time, departure_seen_by, call_uuid, call_time, call_seen_by
    from connections_asked(since, until)
    where client_kind = 'pod' and door in ('service', 'unknown') and (outcome in ('arrived', 'refused', 'one-sided') or unseen is not null)
),
-- The ports of services by their number.
service_ports as materialized (
    select distinct cluster, namespace, service, protocol, port, port_name from service_periods
),
-- Which services of a client's cluster lead to a backend, and by which of their ports.
leads as materialized (
    select distinct c.client_cluster, c.server_address, c.server_port, c.protocol, s.namespace, s.service, p.port_name
    from (select distinct client_cluster, server_cluster, server_address, server_port, protocol from calls) c
    join backends b on b.address = c.server_address and b.protocol = c.protocol and (b.port = c.server_port or b.port is null)
    join services s on s.cluster = c.client_cluster and s.namespace = b.namespace and s.service = b.service
    left join service_ports p
        on p.cluster = s.cluster and p.namespace = s.namespace and p.service = s.service and p.protocol = b.protocol
        and (p.port_name = b.port_name or p.port_name = '' or b.port_name = '')
    where (b.cluster = s.cluster or s."global")
        and (b.cluster = s.cluster or exists (
            from services r where r.cluster = b.cluster and r.namespace = b.namespace and r.service = b.service and r."global" and r.shared
        ))
        and b.valid_from < moved(until, 2) and (b.valid_to is null or b.valid_to > moved(since, -2))
),
-- The port is that which was called, else those that lead to the backend, else any of the service's.
named as materialized (
    select c.*, coalesce(c.door_namespace, l.namespace) as namespace, coalesce(c.door_service, l.service) as service,
        coalesce(p.port_name, l.port_name, o.port_name) as port_name,
        c.door = 'service' and c.door_service is not null as proved
    from calls c
    left join service_ports p
        on p.cluster = c.client_cluster and p.namespace = c.door_namespace and p.service = c.door_service and p.protocol = c.protocol and p.port = c.door_port
    left join leads l
        on p.port_name is null and l.client_cluster = c.client_cluster and l.server_address = c.server_address
        and l.server_port is not distinct from c.server_port and l.protocol = c.protocol
        and (c.door_service is null or l.namespace = c.door_namespace and l.service = c.door_service)
    left join service_ports o
        on p.port_name is null and l.service is null
        and o.cluster = c.client_cluster and o.namespace = c.door_namespace and o.service = c.door_service and o.protocol = c.protocol
    where c.door_service is not null or l.service is not null
),
rivalled as materialized (
    select *, count(*) over (partition by attempt) > 1 as rivals from named
),
-- What flows tell of namespaces. Whose pods are the world's to another cluster are not exported, and its Services neither;
-- whose backends answer another cluster's calls of a service, or whose pods are known there, are.
exported as materialized (
    select namespace, cluster, bool_or(exported) as exported
    from (
        select client_namespace as namespace, client_cluster as cluster, not from_world(seen_identity) as exported
        from calls
        where departure_uuid is not null and arrival_uuid is not null and outcome = 'arrived' and translation = 'none' and client_cluster <> server_cluster
            and (from_world(seen_identity) or seen_identity > 255)
        union all
        select door_namespace, server_cluster, true
        from calls
        where outcome = 'arrived' and client_cluster <> server_cluster and door = 'service' and door_namespace is not null
    )
    group by all
),
told as materialized (
    select namespace, list(cluster) as clusters, coalesce(list(cluster) filter (not exported), []) as closed from exported group by all
),
periods as materialized (
    select
        * replace (remote_backends - coalesce(list_sum(list_transform(shut, lambda cluster: remote_clusters[cluster])), 0) as remote_backends),
        list_distinct(list_concat(closed_clusters, shut)) as closed
    from (
        select
            p.*,
            list_filter(list_intersect(p.doubtful_clusters, (select coalesce(list(cluster), []) from clusters_with_namespaces)), lambda cluster: not list_contains(coalesce(t.clusters, []), cluster)) as doubtful,
            list_intersect(p.doubtful_clusters, coalesce(t.closed, [])) as shut
        from settings_in_force p
        left join told t using (namespace)
    )
),
stated as materialized (
    select
        r.*, p.setting, p.shared, p.remote_backends, p.hidden_backends, p.setting_from, p.setting_to,
        p.session_affinity, p.internal_traffic_policy, p.traffic_distribution, p.unknown_backends, p.misnamed_backends, p.closed, p.doubtful,
        -- internalTrafficPolicy Local leaves the own cluster's backends on the client's node and all remote ones.
        case
            when p.internal_traffic_policy is distinct from 'Local' then p.local_backends
            when r.client_node is not null then coalesce(p.local_nodes[r.client_node], 0)
        end as local_backends,
        if(p.frontends > 1, concat_ws(' ', concat(coalesce(nullif(p.port_name, ''), p.port::varchar), if(p.protocol <> 'TCP', '/' || p.protocol, '')), if(p.family = 'IPv6', 'IPv6', null)), '') as port,
        p.known_from is null or p.known_from > r.time as assumed
    from rivalled r
    left join periods p
        on p.cluster = r.client_cluster and p.namespace = r.namespace and p.service = r.service
        and p.port_name = r.port_name and p.protocol = r.protocol and p.family = address_family(r.server_address)
        and p.valid_from <= r.time and p.valid_end > r.time
),
-- Ports of one service that have the same backends are one choice.
alike as materialized (
    select *, list(port) over one as ports, row_number() over (one order by port) as number, min(state) over one = max(state) over one as same
    from (
        select *, hash(row(namespace, service, setting, shared, local_backends, remote_backends, hidden_backends, setting_from, setting_to, closed, doubtful, unknown_backends, misnamed_backends)) as state
        from stated
        where rivals
    )
    window one as (partition by attempt)
),
decided as materialized (
    from stated where not rivals
    union all by name
    select * exclude (ports, number, same, state) replace (not same as rivals, if(same, array_to_string(list_sort(ports), ', '), port) as port)
    from alike
    where not same or number = 1
),
skew as materialized (
    select clock_skew(since, until) as seconds
),
-- States in force around the moment of the call.
around as materialized (
    select
        s.attempt, s.namespace, s.service, s.port_name, count(*) = 1 as settled,
        bool_or(p.local_backends = 0) as local_empty, bool_or(p.remote_backends = 0) as remote_empty
    from decided s
    join periods p
        on p.cluster = s.client_cluster and p.namespace = s.namespace and p.service = s.service
        and p.port_name = s.port_name and p.protocol = s.protocol and p.family = address_family(s.server_address)
        and p.valid_from <= moved(s.time, 0.2 + (select seconds from skew)) and p.valid_end > moved(s.time, -2 - (select seconds from skew))
    group by all
)
select
    s.*, coalesce(a.settled, true) as settled, coalesce(a.local_empty, false) as local_empty, coalesce(a.remote_empty, false) as remote_empty,
    s.server_cluster = s.client_cluster as is_local,
    -- Where the setting sends the call; null where it leaves a choice, or where there is no backend at all, or where it
    -- depends on a client's node that is not known.
    case
        when s.setting = 'not-global' then true
        when s.local_backends is null then null
        when s.local_backends = 0 and s.remote_backends = 0 then null
        when s.local_backends = 0 then false
        when s.remote_backends = 0 then true
        when s.setting = 'local' then true
        when s.setting = 'remote' then false
    end as wants_local,
    if(wants_local is null, s.local_backends / nullif(s.local_backends + s.remote_backends, 0), wants_local::int::double) as expected_local_share,
    -- Wrong side although the right one had backends, and no change was under way.
    not s.rivals and s.outcome = 'arrived' and coalesce(a.settled, true) and wants_local is not null and is_local <> wants_local
        and not (s.setting = 'local' and coalesce(a.local_empty, false) or s.setting = 'remote' and coalesce(a.remote_empty, false)) as broken,
    case
        when s.rivals then 'rival-services'
        when s.outcome = 'refused' then 'dropped'
        when s.outcome = 'one-sided' then 'one-sided'
        when broken then 'against-setting'
        when s.setting = 'local' and not is_local and coalesce(a.local_empty, false) or s.setting = 'remote' and is_local and coalesce(a.remote_empty, false) then 'fallback'
        when is_local then 'local'
        else 'remote'
    end as class,
    -- What a load balancer that knows no settings at all would do.
    s.local_backends / nullif(s.local_backends + s.remote_backends + s.hidden_backends, 0) as blind_local_share
from decided s
left join around a on a.attempt = s.attempt and a.namespace = s.namespace and a.service = s.service and a.port_name = s.port_name;
