-- Every attempt of a client to reach a pod: who it was, what it aimed at, where it arrived and under which address.
--   outcome:     arrived | one-sided (left, never seen to arrive) | refused (dropped) | cut-off (left in the last second of what was read)
--   translation: none | source | destination | unknown (arrived from a node's address, and nothing tells for whom)
--   client_kind: pod | host | outside | unknown
-- An arrival is matched with the departure it came from; each departure serves one arrival, exact tuples first, then the
-- nearest in time. The two ends are never ordered by time: the far end is often stamped earlier. Events are compared when
-- they are at most five seconds apart; `bucket` and `slice` only keep the joins small.
create or replace macro attempts_between(since, until) as table
with
came_in as materialized (
    select row_number() over (order by ns, cluster, node, uuid) as arrival, *
    from arrivals(moved(since, -10), moved(until, 10))
),
-- A proxied connection shows twice: on its way to the proxy, and from the proxy to the pod.
shown_twice as materialized (
    select distinct p.arrival
    from (select *, unnest([ns // 5000000000 - 1, ns // 5000000000, ns // 5000000000 + 1]) as bucket from came_in where observation_point = 'TO_PROXY') p
    join came_in e
        on e.ns // 5000000000 = p.bucket and e.cluster = p.cluster and e.node = p.node and e.protocol = p.protocol
        and e.source = p.source and e.destination = p.destination and coalesce(e.destination_port, 0) = coalesce(p.destination_port, 0)
    where e.observation_point = 'TO_ENDPOINT' and abs(e.ns - p.ns) < 5000000000
),
came as materialized (
    from came_in anti join shown_twice using (arrival)
),
left_raw as materialized (
    select row_number() over (order by ns, cluster, node, uuid) as departure, *
    from departures(moved(since, -10), moved(until, 10))
    -- The same packet may show at two points of its way out.
    window same as (partition by cluster, node, protocol, source, source_port, destination, destination_port order by ns)
    qualify coalesce(ns - lag(ns) over same > 1000000000 or observation_point = lag(observation_point) over same, true)
),
host_sends as materialized (from host_departures(moved(since, -10), moved(until, 10))),
passages as materialized (from ingresses(moved(since, -10), moved(until, 10))),
owners as materialized (
    select address, any_value(cluster) as cluster, any_value(node) as node
    from (
        select address, cluster, node from node_addresses
        union
        -- What a node sends under its own identity shows its address.
        select source, cluster, node from host_sends
    )
    group by address
    having count(distinct (cluster, node)) = 1
),
drops as materialized (
    select row_number() over (order by ns, uuid) as refusal, *
    from refusals(moved(since, -10), moved(until, 80))
),
-- Addresses inside exactly one cluster's pod range; identities can be missing where the range is not.
pods as materialized (
    select a.address, any_value(r.cluster) as cluster
    from (
        select source as address from came
        union select client from passages
        union select source from drops
        union select destination from drops
        union select destination from left_raw
    ) a
    join pod_ranges r on ipv4_number(a.address) between r.first and r.last
    group by a.address
    having count(distinct r.cluster) = 1
),
doors as materialized (
    select f.*, o.node as ingress_node, o.cluster as ingress_cluster
    from frontends f
    left join owners o on o.address = f.address
    where f.door in ('nodeport', 'loadbalancer')
),
-- Departures with what they aimed at: a pod, or a door of a service.
went as materialized (
    select l.*, l.ns // 5000000000 as bucket, d.door, d.ingress_node, d.ingress_cluster, d.namespace as door_namespace, d.service as door_service
    from left_raw l
    left join doors d on d.address = l.destination and d.port = l.destination_port and d.protocol = l.protocol
        and d.valid_from <= moved(l.time, 2) and d.valid_end > moved(l.time, -2)
    qualify row_number() over (partition by departure order by d.door, d.namespace, d.service) = 1
),
arrived as materialized (
    select c.*, c.ns // 5000000000 as bucket, c.ns // 10000000000 as slice, o.cluster as owner_cluster, o.node as owner_node, coalesce(c.source_cluster, p.cluster) as pod_cluster
    from came c
    left join owners o on o.address = c.source
    left join pods p on p.address = c.source
),
near_arrivals as materialized (
    select * exclude (bucket), unnest([bucket - 1, bucket, bucket + 1]) as bucket from arrived
),
candidates as materialized (
    -- 1: the same tuple at both ends
    select a.arrival, w.departure, 1 as way, abs(a.ns - w.ns) as apart
    from near_arrivals a
    join went w
        on w.bucket = a.bucket and w.protocol = a.protocol and w.source = a.source and w.destination = a.destination
        and coalesce(w.source_port, 0) = coalesce(a.source_port, 0) and coalesce(w.destination_port, 0) = coalesce(a.destination_port, 0)
    where abs(a.ns - w.ns) <= 5000000000
    union all
    -- 2: under the address of the client's node; masquerading keeps the source port
    select a.arrival, w.departure, 2, abs(a.ns - w.ns)
    from near_arrivals a
    join went w
        on w.bucket = a.bucket and w.protocol = a.protocol and w.destination = a.destination and w.cluster = a.owner_cluster and w.node = a.owner_node
        and coalesce(w.source_port, 0) = coalesce(a.source_port, 0) and coalesce(w.destination_port, 0) = coalesce(a.destination_port, 0)
    where abs(a.ns - w.ns) <= 5000000000 and w.source <> a.source
    union all
    -- 3: through a door of a service: the ingress node keeps the client's address where the backend is its own, else gives its own
    select a.arrival, w.departure, 3, abs(a.ns - w.ns)
    from near_arrivals a
    join went w
        on w.bucket = a.bucket and w.protocol = a.protocol and w.source_port = a.source_port
        and (w.source = a.source or a.owner_cluster = w.ingress_cluster and (a.owner_node = w.ingress_node or w.door = 'loadbalancer'))
    where w.door is not null and abs(a.ns - w.ns) <= 5000000000
        and (w.source <> a.source or w.destination <> a.destination)
    union all
    -- 4: masqueraded by a node whose address nobody told
    select a.arrival, w.departure, 4, abs(a.ns - w.ns)
    from near_arrivals a
    join went w
        on w.bucket = a.bucket and w.protocol = a.protocol and w.destination = a.destination
        and w.source_port = a.source_port and w.destination_port = a.destination_port
    where a.owner_node is null and (a.source_identity in (6, 7) or a.source_identity >= 33554432)
        and abs(a.ns - w.ns) <= 5000000000
),
first_round as materialized (
    select arrival, departure, way
    from candidates
    qualify row_number() over (partition by arrival order by way, apart, departure) = 1
        and row_number() over (partition by departure order by way, apart, arrival) = 1
),
second_round as materialized (
    select arrival, departure, way
    from candidates
    anti join first_round using (arrival)
    anti join first_round using (departure)
    qualify row_number() over (partition by arrival order by way, apart, departure) = 1
        and row_number() over (partition by departure order by way, apart, arrival) = 1
),
paired as materialized (
    from first_round union all from second_round
),
-- An ingress node rarely changes the source port. Then only the service ties the ends, and only if nothing else could be meant.
renumbered as materialized (
    select a.arrival, w.departure, 3 as way
    from arrived a
    anti join paired using (arrival)
    join backends b on b.address = a.destination and b.port = a.destination_port and b.protocol = a.protocol
    join went w
        on w.door = 'nodeport' and w.protocol = a.protocol and a.owner_cluster = w.ingress_cluster and a.owner_node = w.ingress_node
        and w.door_namespace = b.namespace and w.door_service = b.service
    anti join paired on paired.departure = w.departure
    where abs(a.ns - w.ns) <= 1000000000 and a.owner_node is not null
        and not exists (
            from passages p
            where p.cluster = a.owner_cluster and p.node = a.owner_node and p.client_port = a.source_port and p.protocol = a.protocol
                and a.ns between p.ns - 5000000000 and p.last_ns + 5000000000
        )
    qualify count(distinct w.departure) over (partition by a.arrival) = 1 and count(distinct a.arrival) over (partition by w.departure) = 1
),
matched as materialized (
    select distinct arrival, departure, way from (from paired union all from renumbered)
),
-- Arrivals without a departure: what else was seen of them.
lone as materialized (
    select a.* exclude (slice), unnest([a.slice - 1, a.slice, a.slice + 1]) as slice
    from arrived a
    anti join matched using (arrival)
),
passed as materialized (
    select
        l.arrival, p.client, p.client_port, p.frontend, p.frontend_port, p.cluster as ingress_cluster, p.node as ingress_node,
        d.door, d.namespace, d.service, o.cluster as owner_cluster, o.node as owner_node, c.cluster as pod_cluster
    from lone l
    join passages p
        on p.slice = l.slice and p.protocol = l.protocol and p.client_port = l.source_port
        and (p.client = l.source and p.cluster = l.cluster and p.node = l.node or p.cluster = l.owner_cluster and p.node = l.owner_node and p.client <> l.source)
        and l.ns between p.ns - 5000000000 and p.last_ns + 5000000000
    join doors d on d.address = p.frontend and d.port = p.frontend_port and d.protocol = p.protocol
    left join owners o on o.address = p.client
    left join pods c on c.address = p.client
    qualify row_number() over (partition by l.arrival order by abs(p.ns - l.ns), d.door, d.namespace, d.service, p.client) = 1
),
hosted as materialized (
    select l.arrival, bool_or(h.destination = l.destination and h.destination_port is not distinct from l.destination_port) as direct, max(d.door) as door,
        max(d.namespace) as namespace, max(d.service) as service, max(d.ingress_cluster) as ingress_cluster, max(d.ingress_node) as ingress_node
    from lone l
    join host_sends h
        on h.slice = l.slice and h.protocol = l.protocol and h.source = l.source and h.cluster = l.owner_cluster and h.node = l.owner_node
        and coalesce(h.source_port, 0) = coalesce(l.source_port, 0)
        and l.ns between h.ns - 5000000000 and h.last_ns + 5000000000
    left join doors d on d.address = h.destination and d.port = h.destination_port and d.protocol = h.protocol
    where h.destination = l.destination and h.destination_port is not distinct from l.destination_port or d.door is not null
    group by l.arrival
),
arrivals_told as (
    select
        'arrived' as outcome, a.time, a.ns, coalesce(w.ns, a.ns) as client_ns, a.protocol,
        case
            when w.departure is not null then 'pod'
            when p.client is not null then case when p.owner_node is not null then 'host' when p.pod_cluster is not null then 'pod' else 'outside' end
            when h.arrival is not null or a.source_identity = 1 or a.owner_node = a.node and a.owner_cluster = a.cluster then 'host'
            when a.owner_node is not null or a.source_identity in (6, 7) or a.source_identity >= 33554432 then 'unknown'
            when a.source_id is not null or a.source_pod is not null or a.pod_cluster is not null then 'pod'
            else 'outside'
        end as client_kind,
        case
            when w.departure is not null then w.source_cluster
            when p.client is not null then coalesce(p.owner_cluster, p.pod_cluster, '')
            when a.owner_cluster is not null then a.owner_cluster
            when client_kind = 'unknown' then 'unknown'
            -- Identity 1 is the observing node's own host, whatever its address.
            when a.source_identity = 1 then a.cluster
            else coalesce(a.pod_cluster, '')
        end as client_cluster,
        coalesce(w.source_namespace, a.source_namespace) as client_namespace,
        coalesce(w.source_pod, a.source_pod) as client_pod,
        coalesce(w.cluster, if(h.arrival is not null or client_kind = 'host', a.owner_cluster, null), if(a.source_id is not null, a.cluster, null)) as client_node_cluster,
        coalesce(w.node, if(h.arrival is not null or client_kind = 'host', a.owner_node, null), if(a.source_id is not null, a.node, null)) as client_node,
        coalesce(w.source, p.client, a.source) as client_address,
        coalesce(w.source_port, p.client_port, a.source_port) as client_port,
        coalesce(w.destination, p.frontend, a.destination) as aim_address,
        coalesce(w.destination_port, p.frontend_port, a.destination_port) as aim_port,
        case
            when m.way in (2, 4) then 'source'
            when m.way = 3 then if(a.source = w.source, 'destination', 'source')
            when m.way = 1 then 'none'
            when p.client is not null then if(a.source = p.client, 'destination', 'source')
            when h.arrival is not null then if(h.direct, 'none', 'destination')
            when client_kind = 'unknown' then 'unknown'
            else 'none'
        end as translation,
        case
            when m.way in (2, 4) then 'masquerade'
            when m.way = 3 then w.door
            when p.client is not null then p.door
            when h.arrival is not null and not h.direct then h.door
        end as translated_by,
        coalesce(if(m.way = 3, w.door, null), p.door, if(not h.direct, h.door, null)) as packet_door,
        coalesce(if(m.way = 3, w.door_namespace, null), p.namespace, if(not h.direct, h.namespace, null)) as door_namespace,
        coalesce(if(m.way = 3, w.door_service, null), p.service, if(not h.direct, h.service, null)) as door_service,
        coalesce(if(m.way = 3, w.ingress_cluster, null), p.ingress_cluster, if(not h.direct, h.ingress_cluster, null)) as ingress_cluster,
        a.source as seen_address, a.source_port as seen_port,
        a.cluster as server_cluster, a.node as server_node, a.destination_namespace as server_namespace, a.destination_pod as server_pod,
        a.destination as server_address, a.destination_port as server_port,
        null::varchar as drop_reason, a.uuid as arrival_uuid, a.time as arrival_time, a.cluster || '/' || a.node as arrival_seen_by,
        w.uuid as departure_uuid, w.time as departure_time, w.cluster || '/' || w.node as departure_seen_by, a.arrival, w.departure
    from arrived a
    left join matched m using (arrival)
    left join went w on w.departure = m.departure
    left join passed p using (arrival)
    left join hosted h using (arrival)
),
stayed_away as materialized (
    select w.*, w.ns // 10000000000 as slice, coalesce(w.destination_cluster, p.cluster) as pod_cluster
    from went w
    left join pods p on p.address = w.destination
    anti join matched using (departure)
),
drops_owned as materialized (
    select d.*, o.cluster as owner_cluster, o.node as owner_node, coalesce(d.source_cluster, s.cluster) as from_cluster, coalesce(d.destination_cluster, t.cluster) as to_cluster
    from drops d
    left join owners o on o.address = d.source
    left join pods s on s.address = d.source
    left join pods t on t.address = d.destination
),
refused as materialized (
    select s.departure, d.refusal
    from stayed_away s
    join drops_owned d
        on d.protocol = s.protocol and coalesce(d.source_port, 0) = coalesce(s.source_port, 0) and d.destination = s.destination
        and coalesce(d.destination_port, 0) = coalesce(s.destination_port, 0)
        and (d.source = s.source or d.owner_cluster = s.cluster and d.owner_node = s.node)
    where d.ns between s.ns - 5000000000 and s.ns + 75000000000
    qualify row_number() over (partition by s.departure order by abs(d.ns - s.ns), d.refusal) = 1
        and row_number() over (partition by d.refusal order by abs(d.ns - s.ns), s.departure) = 1
),
hidden as materialized (
    select distinct s.departure
    from (select * exclude (slice), unnest([slice - 1, slice, slice + 1]) as slice from stayed_away) s
    join masquerades(moved(since, -10), moved(until, 10)) x
        on x.slice = s.slice and x.cluster = s.cluster and x.node = s.node and x.protocol = s.protocol and x.source = s.source and x.destination = s.destination
        and coalesce(x.destination_port, 0) = coalesce(s.destination_port, 0)
        and s.ns between x.ns - 5000000000 and x.last_ns + 5000000000
    join owners o on o.address = x.source_xlated and o.cluster = s.cluster and o.node = s.node
),
read_until as (
    select max(epoch_ns(time)) as ns from flows where time >= since and time < moved(until, 10)
),
departures_told as (
    select
        case
            when r.refusal is not null then 'refused'
            when s.ns > (select ns from read_until) - 1000000000 then 'cut-off'
            else 'one-sided'
        end as outcome,
        s.time, s.ns, s.ns as client_ns, s.protocol,
        'pod' as client_kind, s.source_cluster as client_cluster, s.source_namespace as client_namespace, s.source_pod as client_pod,
        s.cluster as client_node_cluster, s.node as client_node, s.source as client_address, s.source_port as client_port,
        s.destination as aim_address, s.destination_port as aim_port,
        case when h.departure is not null then 'source' when s.door is not null then 'destination' else 'unknown' end as translation,
        if(h.departure is not null, 'masquerade', s.door) as translated_by,
        s.door as packet_door, s.door_namespace, s.door_service, s.ingress_cluster,
        null::varchar as seen_address, null::uinteger as seen_port,
        coalesce(s.pod_cluster, s.ingress_cluster) as server_cluster, null::varchar as server_node,
        s.destination_namespace as server_namespace, s.destination_pod as server_pod,
        s.destination as server_address, s.destination_port as server_port,
        d.drop_reason, d.uuid as arrival_uuid, make_timestamp_ns(d.ns) as arrival_time, d.cluster || '/' || d.node as arrival_seen_by,
        s.uuid as departure_uuid, s.time as departure_time, s.cluster || '/' || s.node as departure_seen_by, null::bigint as arrival, s.departure
    from stayed_away s
    left join refused r using (departure)
    left join drops d using (refusal)
    left join hidden h using (departure)
    where s.pod_cluster is not null or s.door is not null
),
refusals_told as (
    select
        'refused' as outcome, make_timestamp_ns(d.ns) as time, d.ns, d.ns as client_ns, d.protocol,
        case when d.owner_node is not null then 'unknown' when d.from_cluster is not null then 'pod' else 'outside' end as client_kind,
        coalesce(d.owner_cluster, d.from_cluster, '') as client_cluster, d.source_namespace as client_namespace, d.source_pod as client_pod,
        null::varchar as client_node_cluster, null::varchar as client_node, d.source as client_address, d.source_port as client_port,
        d.destination as aim_address, d.destination_port as aim_port, 'none' as translation, null::varchar as translated_by,
        null::varchar as packet_door, null::varchar as door_namespace, null::varchar as door_service, null::varchar as ingress_cluster,
        d.source as seen_address, d.source_port as seen_port,
        d.to_cluster as server_cluster, d.node as server_node,
        d.destination_namespace as server_namespace, d.destination_pod as server_pod, d.destination as server_address, d.destination_port as server_port,
        d.drop_reason, d.uuid as arrival_uuid, make_timestamp_ns(d.ns) as arrival_time, d.cluster || '/' || d.node as arrival_seen_by,
        null::ubigint as departure_uuid, null::timestamp_ns as departure_time, null::varchar as departure_seen_by, null::bigint as arrival, null::bigint as departure
    from drops_owned d
    anti join refused using (refusal)
    where d.to_cluster is not null
)
select row_number() over (order by ns, protocol, client_address, client_port, server_address, server_port, outcome) as attempt, *
from (
    from arrivals_told
    union all by name from departures_told
    union all by name from refusals_told
)
where time >= since and time < until;
