-- What something between two clusters translated, that neither of them knows of.

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
-- chosen, not drawn. `attempts` is the name of a relation of numbered attempts.
create or replace macro translated_between(attempts) as table
with
lone_arrivals as materialized (
    select
        attempt as arrival, ns, bucket(ns) as bucket, server_cluster as cluster, protocol, seen_address as source, seen_port as source_port,
        server_address as destination, server_port as destination_port, owner_cluster
    from query_table(attempts)
    where ends = 'server' and alone
),
lone_departures as materialized (
    select
        attempt as departure, client_ns as ns, bucket(client_ns) as bucket, client_node_cluster as cluster, protocol, client_address as source,
        client_port as source_port, server_address as destination, server_port as destination_port
    from query_table(attempts)
    where ends = 'client' and alone and server_address in (select destination from lone_arrivals)
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
select arrival, departure
from pairs
join proved using (client_cluster, server_cluster);

-- The attempts of a window, with the two ends of each that was translated in between as one. Parameters are names of relations:
-- numbered attempts, translated_between.
create or replace macro attempts_joined(attempts, pairs, since, until) as table
from query_table(attempts) a
anti join (select unnest([arrival, departure]) as attempt from query_table(pairs)) p using (attempt)
where a.time >= since and a.time < until
union all by name
select
    w.* replace (
        'both' as ends, a.time as time, a.ns as ns, 'source' as translation, 'between' as translated_by,
        a.seen_address as seen_address, a.seen_port as seen_port, a.seen_identity as seen_identity,
        a.server_cluster as server_cluster, a.server_node as server_node, a.server_namespace as server_namespace, a.server_pod as server_pod,
        a.arrival_uuid as arrival_uuid, a.arrival_time as arrival_time, a.arrival_seen_by as arrival_seen_by, null as ingress_cluster
    )
from query_table(pairs) p
join query_table(attempts) a on a.attempt = p.arrival and a.time >= since and a.time < until
join query_table(attempts) w on w.attempt = p.departure and w.time >= read_from(since) and w.time < read_to(until);
