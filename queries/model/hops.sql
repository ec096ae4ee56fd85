-- Every connection with the way it took.
--   passes:   how often it passed the border between clusters; null where the client's cluster is unknown
--   class:    stayed | crossed | avoidable | trombone | hairpin | dropped | unknown
--   assumed:  the setting in force is known only from a later look
--   hairpin:  a pod's call that went out to a balancer, which made this one of it
--   turned_by:  what tells: frontend | rate; no hairpin where calls only follow each other: `possible` | `hidden` (under the
--             address of a node, which hides who called)
--   misled:   asked for another cluster's NodePort, answered by its own (cilium/cilium#24692)
create or replace macro hops_between(since, until, only_namespace, only_service) as table
with
seen as materialized (
    -- What left for a known backend that gives no arrival took its way, whatever may still be seen of it.
    select * replace (if(unseen is not null and outcome in ('one-sided', 'cut-off'), 'sent', outcome) as outcome)
    from connections_asked(since, until)
    where (outcome <> 'cut-off' or unseen is not null) and server_cluster is not null
),
-- The one service that a backend belongs to, for doors that do not name one.
only_one as materialized (
    select address, coalesce(port, 0) as port, protocol, any_value(namespace) as namespace, any_value(service) as service
    from backends
    where valid_from < until and (valid_to is null or valid_to > since)
    group by all
    having count(distinct (namespace, service)) = 1
),
-- What came in from outside, and under the address of a node, which hides who called.
let_in as materialized (
    select
        s.attempt, s.client_kind, s.client_address, s.client_ns, s.door, s.server_address, coalesce(s.server_port, 0) as server_port,
        coalesce(s.door_namespace, o.namespace) as namespace, coalesce(s.door_service, o.service) as service
    from seen s
    left join only_one o on o.address = s.server_address and o.port = coalesce(s.server_port, 0) and o.protocol = s.protocol
    where s.outcome in ('arrived', 'refused') and s.client_kind in ('outside', 'unknown')
),
callers as materialized (from let_in where client_kind = 'outside'),
hidden as (from let_in where client_kind = 'unknown'),
-- By which ports a balancer outside may be called that leads there: those of all services of the backend.
hidden_by_port as materialized (
    select distinct h.attempt, h.client_ns, f.port, f.protocol
    from hidden h
    join backends b on b.address = h.server_address and coalesce(b.port, 0) = h.server_port
    join frontends f on f.namespace = b.namespace and f.service = b.service and f.protocol = b.protocol
),
-- Calls of pods to outside addresses that also call in, or by the port of a service whose callers are hidden; what came in
-- is paired with them by nearness in time.
leaving as materialized (
    select row_number() over (order by d.ns, d.uuid) as call, d.*
    from departures(moved(since, -2), until) d
    where d.destination_cluster is null
        and (d.destination in (select client_address from callers) or (d.destination_port, d.protocol) in (select (port, protocol) from hidden_by_port))
),
outward as materialized (from leaving where destination in (select client_address from callers)),
-- Which backends the load balancers lead to that Services name.
balanced as materialized (
    select distinct f.address, f.port, b.address as backend, coalesce(b.port, 0) as backend_port
    from frontends f
    join backends b using (namespace, service, protocol)
    where f.door = 'loadbalancer'
),
line as materialized (
    select attempt as id, true as is_attempt, client_ns as ns, client_address as key from callers
    union all
    select call, false, ns, destination from outward
),
pairs as materialized (from paired_calls('line')),
-- Nothing but time ties these ends, and others call through the same balancer; what is sent to a known one comes back in
-- any case.
near as materialized (
    select
        p.attempt, p.later, o.uuid, o.destination, o.source_cluster, o.source_namespace, o.source_pod,
        f.address is not null as to_frontend,
        -- In by a door of the service that is called by that port.
        c.door in ('nodeport', 'loadbalancer') and o.destination_port in (
            select port from frontends f where f.namespace = c.namespace and f.service = c.service
        ) as by_door
    from pairs p
    join outward o using (call)
    join callers c using (attempt)
    left join balanced f
        on f.address = o.destination and f.port = o.destination_port and f.backend = c.server_address and f.backend_port = c.server_port
),
-- Who is called and calls is no balancer for that. One passes every call on at once, so that many more calls follow
-- another one closely than would by chance; calls by the clock, seconds apart, may keep step without it.
rates as materialized (from turning_rates('outward', 'callers', 'near')),
turned as materialized (
    select
        n.attempt, n.uuid, n.source_cluster, n.source_namespace, n.source_pod,
        case
            when n.to_frontend then 'frontend'
            when r.destination is null or not at_once(n.later) then null
            when n.by_door and not r.by_clock then 'rate'
            else 'possible'
        end as turned_by
    from near n
    left join rates r using (destination)
    where turned_by is not null
),
-- What a node's address hides may be a pod's, turned back by a balancer: what followed a pod's call to an address outside at once.
line_by_port as materialized (
    select attempt as id, true as is_attempt, client_ns as ns, (port, protocol) as key from hidden_by_port
    union all
    select call, false, ns, (destination_port, protocol) from leaving where destination not in (select address from node_addresses)
),
turned_or_hidden as materialized (
    select attempt, source_cluster, turned_by from turned
    union all
    select distinct attempt, null, 'hidden' from paired_calls('line_by_port') where at_once(later)
),
told as materialized (
    select
        s.* exclude (door),
        t.turned_by, coalesce(t.turned_by not in ('possible', 'hidden'), false) as hairpin,
        if(hairpin, 'loadbalancer', s.door) as door,
        if(hairpin, t.source_cluster, s.client_cluster) as source_cluster,
        case when s.door = 'pod' then '' else coalesce(s.door_namespace, o.namespace, '') end as namespace,
        case when s.door = 'pod' then '' else coalesce(s.door_service, o.service, '') end as service
    from seen s
    left join turned_or_hidden t using (attempt)
    left join only_one o on o.address = s.server_address and o.port = coalesce(s.server_port, 0) and o.protocol = s.protocol
    -- The way out of a hairpin is part of it.
    where s.departure_uuid is null or s.outcome <> 'one-sided' or s.departure_uuid not in (select uuid from turned where turned_by <> 'possible')
),
skew as materialized (
    select clock_skew(since, until) as seconds
),
-- States in force around the moment of the call, as in service_calls_between.
around as materialized (
    select t.attempt, count(distinct p.valid_from) = 1 as settled,
        -- Where no slice was seen nothing is known of backends.
        if(bool_or(list_contains(p.unknown_backends, p.cluster)), null, min(p.local_backends)) as local_backends,
        arg_max(p.setting, p.valid_from) as setting,
        bool_and(coalesce(p.known_from <= t.time, false)) as watched
    from told t
    join settings_in_force p
        on p.cluster = t.source_cluster and p.namespace = t.namespace and p.service = t.service
        and p.protocol = t.protocol and p.family = address_family(t.server_address)
        and (p.port = t.door_port or t.door_port is null and (p.frontends = 1 or exists (
            from backends b
            where b.namespace = t.namespace and b.service = t.service and (b.port_name = p.port_name or b.port_name = '' or p.port_name = '') and b.protocol = p.protocol
                and b.address = t.server_address and b.port = t.server_port
        )))
        and p.valid_from <= moved(t.time, 0.2 + (select seconds from skew)) and p.valid_end > moved(t.time, -2 - (select seconds from skew))
    group by all
),
placed as (
    select
        t.*, p.setting, p.local_backends, coalesce(p.settled, false) as settled, not coalesce(p.watched, false) as assumed,
        t.source_cluster not in ('', 'unknown') and t.ingress_cluster is not null and t.ingress_cluster <> t.source_cluster as through_other,
        case
            when t.source_cluster = '' then 0
            when t.source_cluster = 'unknown' then null
            when through_other then 1 + (t.ingress_cluster <> t.server_cluster)::int
            else (t.source_cluster <> t.server_cluster)::int
        end as passes
    from told t
    left join around p using (attempt)
    where (only_namespace is null or t.namespace = only_namespace) and (only_service is null or t.service = only_service)
)
select
    *,
    server_cluster as destination_cluster,
    coalesce(passes, 0) > 0 and service <> '' and coalesce(local_backends, 0) > 0 as avoidable,
    through_other and source_cluster = server_cluster as trombone,
    door = 'nodeport' and aimed_cluster <> client_cluster and server_cluster = client_cluster as misled,
    case
        when outcome = 'refused' then 'dropped'
        when trombone then 'trombone'
        when hairpin then 'hairpin'
        when avoidable then 'avoidable'
        when passes is null then 'unknown'
        when passes > 0 then 'crossed'
        else 'stayed'
    end as class
from placed;
