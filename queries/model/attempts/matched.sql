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
