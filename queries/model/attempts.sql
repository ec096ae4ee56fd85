-- Every attempt of a client to reach something, as flows of both ends show it: who it was, what it aimed at, where it arrived
-- and under which address, and which door of a service it took. Whether it lacks an end for a reason, and what the absence
-- of a sign says, depends on what else was seen: `connections` tells it.
--   ends:         both | server (came from nowhere) | client (left, never seen to arrive) | drop (only that was seen) | socket
--                 (led back to the caller: no packet shows)
--   translation: none | source | destination | unknown (arrived from a node's address, and nothing tells for whom)
--   client_kind: pod | host | outside | ingress (Envoy, for whoever called an Ingress or Gateway) | unknown
-- An arrival is matched with the departure it came from; each departure serves one arrival, exact tuples first, then the
-- nearest in time. The two ends are never ordered by time: the far end is often stamped earlier. Events are compared when
-- they are at most five seconds apart; `bucket` and `slice` only keep the joins small. What is told does not depend on the
-- window: an attempt is the same whoever asks for it. The ways a call can go stand in attempts/; they are handed relations
-- by name. What flows tell of addresses is read from `told_since` until `told_until` and else taken from known_addresses.
create or replace macro attempts_made(since, until, told_since, told_until) as table
with
known as materialized (from addresses_known(slices_from(since), slices_to(until), told_since, told_until)),
proxies as materialized (select hour, address from known where kind = 'proxy'),
-- What was seen.
seen_to_arrive as materialized (from arrivals_once(slices_from(since), slices_to(until), 'proxies')),
seen_to_leave as materialized (from departures_once(slices_from(since), slices_to(until), 'proxies')),
seen_of_hosts as materialized (from host_departures(slices_from(since), slices_to(until))),
seen_to_pass as materialized (from ingresses(slices_from(since), slices_to(until))),
seen_dropped as materialized (from refusals_once(slices_from(since), slices_to(until))),
seen_masqueraded as (from masquerades(slices_from(since), slices_to(until))),
-- Whose addresses are in it.
seen_addresses as materialized (
    select hour, address, cluster from known where kind = 'pod' and (hour, address) not in (from proxies)
    union select hour, source, null from seen_to_arrive
    union select hour, destination, null from seen_to_leave
    union select hour_of(ns), client, null from seen_to_pass
    union select hour, unnest([source, destination]), null from seen_dropped
),
hours as materialized (
    select distinct hour from seen_addresses
    union select hour from seen_to_arrive
    union select hour_of(ns) from seen_of_hosts
),
owners as materialized (from address_owners('known', 'hours')),
pods as materialized (from pod_addresses('seen_addresses')),
-- Both ends of each attempt.
came as materialized (from arrivals_owned('seen_to_arrive', 'owners', 'pods', 'proxies')),
went as materialized (from departures_aimed('seen_to_leave', 'doors', 'owners', 'pods')),
dropped as materialized (from refusals_owned('seen_dropped', 'owners', 'pods')),
in_time as materialized (from matched_in_time('came', 'went')),
matched as materialized (
    from in_time union all from matched_by_service('came', 'went', 'in_time', 'seen_to_pass')
),
-- What else was seen of those with one end.
came_alone as materialized (
    select c.* exclude (slice), unnest(slices_around(c.ns)) as slice from came c anti join matched using (arrival)
),
passed as materialized (from passed_on('came_alone', 'came', 'seen_to_pass', 'doors', 'owners', 'pods')),
sent_by_host as materialized (from sent_by_hosts('came_alone', 'seen_of_hosts', 'doors', 'owners')),
through_nodeport as materialized (from nodeport_backends('came_alone', 'doors')),
went_alone as materialized (from went anti join matched using (departure)),
refused as materialized (from departures_refused('went_alone', 'dropped')),
masqueraded as materialized (from departures_masqueraded('went_alone', 'seen_masqueraded', 'owners')),
received as materialized (from departures_received('went_alone', 'seen_to_pass')),
-- Calls without any packet.
self_calls as materialized (from calls_to_self(slices_from(since), slices_to(until))),
to_self as materialized (from calls_without_packet('self_calls', 'came')),
told as materialized (
    select row_number() over (order by ns, protocol, client_address, client_port, server_address, server_port, ends, arrival_uuid, departure_uuid) as attempt, *
    from (
        from attempts_arrived('came', 'went', 'matched', 'passed', 'sent_by_host', 'through_nodeport')
        union all by name
        from attempts_left('went_alone', 'refused', 'dropped', 'masqueraded', 'received')
        union all by name
        from attempts_to_self('to_self')
        union all by name
        from attempts_refused('dropped', 'refused')
    )
),
-- The door that each took.
calls as materialized (from calls_aimed(slices_from(since), slices_to(until))),
line as materialized (from calls_and_attempts('told', 'calls')),
called as materialized (from paired_calls('line')),
sent as materialized (from sends_aimed(slices_from(since), slices_to(until))),
sent_to as materialized (from attempts_sent('told', 'sent')),
answered as materialized (from attempts_answered('told', slices_from(since), slices_to(until)))
select
    t.* exclude (attempt, ns, client_ns) replace (coalesce(t.alone, false) as alone, coalesce(t.received, false) as received),
    make_timestamp_ns(t.client_ns) as client_time,
    c.uuid as call_uuid, make_timestamp_ns(c.ns) as call_time, c.cluster || '/' || c.node as call_seen_by,
    c.door as call_door, coalesce(c.namespace, split_part(c.aim_service, '/', 1)) as call_namespace,
    coalesce(c.service, split_part(c.aim_service, '/', 2)) as call_service, c.aim_port as call_port, c.door_cluster as call_cluster,
    r.attempt is not null as answered, r.service_address as answered_by,
    coalesce(s.to_backend, false) as sent_to_backend, s.door as sent_door, s.namespace as sent_namespace, s.service as sent_service, s.door_port as sent_port
from told t
left join called m using (attempt)
left join calls c using (call)
left join answered r using (attempt)
left join sent_to s using (attempt)
where t.time >= since and t.time < until;
