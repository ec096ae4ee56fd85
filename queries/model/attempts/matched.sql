-- Which departure an arrival may have come from. Parameters are names of relations: arrivals_owned, departures_aimed.
--   way:         same-tuple | masquerade (under its node's address) | door (of a service) | between (see translated_between)
--   preference:  what is sure before what is less so
create or replace macro match_candidates(arrivals, departures) as table
with near_arrivals as materialized (
    select * exclude (bucket), unnest(buckets_around(ns)) as bucket from query_table(arrivals)
),
candidates as (
    select a.arrival, w.departure, 'same-tuple' as way, 1 as preference, abs(a.ns - w.ns) as apart
    from near_arrivals a
    join query_table(departures) w
        on w.bucket = a.bucket and w.protocol = a.protocol and w.source = a.source and w.destination = a.destination
        and coalesce(w.source_port, 0) = coalesce(a.source_port, 0) and coalesce(w.destination_port, 0) = coalesce(a.destination_port, 0)
    union all
    -- Under the address of the client's node; masquerading keeps the source port.
    select a.arrival, w.departure, 'masquerade', 2, abs(a.ns - w.ns)
    from near_arrivals a
    join query_table(departures) w
        on w.bucket = a.bucket and w.protocol = a.protocol and w.destination = a.destination and w.cluster = a.owner_cluster and w.node = a.owner_node
        and coalesce(w.source_port, 0) = coalesce(a.source_port, 0) and coalesce(w.destination_port, 0) = coalesce(a.destination_port, 0)
    where w.source <> a.source
    union all
    -- The ingress node keeps the client's address where the backend is its own, else gives its own. In a tunnel the client's
    -- node masquerades what its pods send to nodes: a backend on the ingress node sees that.
    select a.arrival, w.departure, 'door', 3, abs(a.ns - w.ns)
    from near_arrivals a
    join query_table(departures) w
        on w.bucket = a.bucket and w.protocol = a.protocol and w.source_port = a.source_port
        and (w.source = a.source or a.owner_cluster = w.ingress_cluster and (a.owner_node = w.ingress_node or w.door = 'loadbalancer')
            or a.owner_cluster = w.cluster and a.owner_node = w.node)
    where w.door is not null and (w.source <> a.source or w.destination <> a.destination)
    union all
    -- Masqueraded by a node whose address nobody told.
    select a.arrival, w.departure, 'masquerade', 4, abs(a.ns - w.ns)
    from near_arrivals a
    join query_table(departures) w
        on w.bucket = a.bucket and w.protocol = a.protocol and w.destination = a.destination
        and w.source_port = a.source_port and w.destination_port = a.destination_port
    where a.owner_node is null and a.from_node
)
from candidates where apart <= nearby_ns();

-- Candidates that are each other's best: the most preferred, then the nearest in time.
create or replace macro best_matches(candidates) as table
select arrival, departure, way
from query_table(candidates)
qualify row_number() over (partition by arrival order by preference, apart, departure) = 1
    and row_number() over (partition by departure order by preference, apart, arrival) = 1;

-- Arrivals with their departures: the best matches, then the best of what those left. Parameters as of match_candidates.
create or replace macro matched_in_time(arrivals, departures) as table
with
possible_matches as materialized (from match_candidates(arrivals, departures)),
best as materialized (from best_matches('possible_matches')),
matches_left as materialized (
    from possible_matches anti join best using (arrival) anti join best using (departure)
)
from best
union all
from best_matches('matches_left');

-- An ingress node rarely changes the source port. Then only the service ties the ends, and only if nothing else could be
-- meant. Parameters are names of relations: arrivals_owned, departures_aimed, matched_in_time, of `ingresses`.
create or replace macro matched_by_service(arrivals, departures, matches, passages) as table
select distinct a.arrival, w.departure, 'door' as way
from query_table(arrivals) a
anti join query_table(matches) m using (arrival)
join backends b on b.address = a.destination and b.port = a.destination_port and b.protocol = a.protocol
join query_table(departures) w
    on w.door = 'nodeport' and w.protocol = a.protocol and a.owner_cluster = w.ingress_cluster and a.owner_node = w.ingress_node
    and w.door_namespace = b.namespace and w.door_service = b.service
anti join query_table(matches) n on n.departure = w.departure
where abs(a.ns - w.ns) <= seconds_ns(1) and a.owner_node is not null
    and not exists (
        from query_table(passages) p
        where p.cluster = a.owner_cluster and p.node = a.owner_node and p.client_port = a.source_port and p.protocol = a.protocol
            and a.ns between p.ns - nearby_ns() and p.last_ns + nearby_ns()
    )
qualify count(distinct w.departure) over (partition by a.arrival) = 1 and count(distinct a.arrival) over (partition by w.departure) = 1;

-- How many ports Linux takes for connections: 32768 to 60999.
create or replace macro client_ports() as 28232;

-- The two ends of one connection are at most this far apart where clocks agree (measured: 0.14 s).
create or replace macro same_connection_ns() as seconds_ns(0.25);

-- Whether chance would give so many of one kind less than once in a million times, and there are three at least:
-- Chernoff's bound for Poisson's distribution.
create or replace macro beyond_chance(found, expected) as
    found >= 3 and found > expected and found * (1 + ln(expected / found)) - expected < ln(1e-6);

-- What something between two clusters translated: a pod's departure and an arrival of the same protocol, source port,
-- destination and port, under an address that is no pod's and not of the client's own node. Nearness in time proves
-- nothing and one port little: there must be more of them than chance gives two unrelated callers (once in
-- client_ports()). A client takes ports in turn, and two such rows may meet by one accident: so either that many clients
-- or backends are told, or most of the two ends are also the nearest in time of all that has one end. Ports below 1024 are
-- chosen, not drawn. Parameters are names of relations: arrivals and departures that nothing else explains (came_alone,
-- went_alone), passed_on, sent_by_hosts, departures_refused.
create or replace macro translated_between(arrivals, departures, passages, host_calls, refused) as table
with
lone_arrivals as materialized (
    select distinct a.arrival, a.ns, a.bucket, a.cluster, a.protocol, a.source, a.source_port, a.destination, a.destination_port, a.owner_cluster
    from query_table(arrivals) a
    anti join query_table(passages) p using (arrival)
    anti join query_table(host_calls) h using (arrival)
    where a.source_port >= 1024 and a.destination_port is not null and a.pod_cluster is null
        and not coalesce(own_host(a.source_identity), false)
        and (a.owner_node is not null or not a.from_node)
        -- Under an address of the server's own cluster nobody was translated on the way from another one.
        and a.owner_cluster is distinct from a.cluster
),
lone_departures as materialized (
    select w.departure, w.ns, w.bucket, w.cluster, w.protocol, w.source, w.source_port, w.destination, w.destination_port
    from query_table(departures) w
    anti join query_table(refused) r using (departure)
    where w.door is null and w.destination in (select destination from lone_arrivals)
),
-- How far the nearest departure is from each arrival, whatever its port.
nearest as materialized (
    select
        arrival,
        least(
            ns - last_value(if(arrival is null, ns, null) ignore nulls) over (line rows between unbounded preceding and current row),
            first_value(if(arrival is null, ns, null) ignore nulls) over (line rows between current row and unbounded following) - ns
        ) as apart
    from (
        select arrival, ns, protocol, destination, destination_port from lone_arrivals
        union all
        select null, ns, protocol, destination, destination_port from lone_departures
    )
    window line as (partition by protocol, destination, destination_port order by ns)
),
pairs as materialized (
    select
        a.arrival, w.departure, a.cluster as server_cluster, w.cluster as client_cluster, w.source_port,
        row(w.source, w.destination, w.destination_port) as ends, abs(a.ns - w.ns) as apart
    from (select * exclude (bucket), unnest(buckets_around(ns)) as bucket from lone_arrivals) a
    join lone_departures w
        on w.bucket = a.bucket and w.protocol = a.protocol and w.source_port = a.source_port
        and w.destination = a.destination and w.destination_port = a.destination_port
    where w.source <> a.source and w.cluster <> a.cluster and coalesce(a.owner_cluster = w.cluster, true) and apart <= nearby_ns()
    qualify row_number() over (partition by a.arrival order by apart, w.departure) = 1
        and row_number() over (partition by w.departure order by apart, a.arrival) = 1
),
-- How many that near would have the same port by chance.
meetings as (
    select client_cluster, server_cluster, sum(left_here * came_here) / client_ports() as expected
    from (
        select cluster as client_cluster, protocol, destination, destination_port, ns // same_connection_ns() as moment, count(*) as left_here
        from lone_departures
        group by all
    )
    join (
        select cluster as server_cluster, protocol, destination, destination_port, moment, count(*) as came_here
        from (select *, ns // same_connection_ns() + unnest([-1, 0, 1]) as moment from lone_arrivals)
        group by all
    ) using (protocol, destination, destination_port, moment)
    group by all
),
proved as (
    select p.client_cluster, p.server_cluster
    from pairs p
    join nearest n using (arrival)
    join meetings m using (client_cluster, server_cluster)
    where p.apart <= same_connection_ns()
    group by p.client_cluster, p.server_cluster
    having beyond_chance(count(distinct p.ends), any_value(m.expected))
        or beyond_chance(count(distinct p.source_port), any_value(m.expected)) and 2 * count(*) filter (p.apart <= n.apart) >= count(*)
)
select arrival, departure, 'between' as way
from pairs
join proved using (client_cluster, server_cluster);
