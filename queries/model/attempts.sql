-- Every attempt of a client to reach a pod: who it was, what it aimed at, where it arrived and under which address.
--   outcome:     arrived | one-sided (left, never seen to arrive) | refused (dropped) | cut-off (left in the last second of what was read)
--                | sent (left for a backend that gives no arrival)
--   unseen:      why the backend cannot be seen to receive, as in unseen_backends
--   translation: none | source | destination | unknown (arrived from a node's address, and nothing tells for whom)
--   client_kind: pod | host | outside | ingress (Envoy, for whoever called an Ingress or Gateway) | unknown
-- An arrival is matched with the departure it came from; each departure serves one arrival, exact tuples first, then the
-- nearest in time. The two ends are never ordered by time: the far end is often stamped earlier. Events are compared when
-- they are at most five seconds apart; `bucket` and `slice` only keep the joins small. The ways a call can go stand in
-- attempts/; they are handed relations by name.
create or replace macro attempts_between(since, until) as table
with
-- What was seen.
proxies as materialized (from proxy_addresses(read_from(since), read_to(until))),
seen_to_arrive as materialized (from arrivals_once(since, until, 'proxies')),
seen_to_leave as materialized (from departures_once(since, until, 'proxies')),
seen_of_hosts as materialized (from host_departures(read_from(since), read_to(until))),
seen_to_pass as materialized (from ingresses(read_from(since), read_to(until))),
seen_dropped as materialized (from refusals_once(since, until)),
seen_masqueraded as (from masquerades(read_from(since), read_to(until))),
-- Whose addresses are in it.
owners as materialized (from address_owners('seen_of_hosts')),
seen_addresses as (
    select source as address, source_cluster as cluster from seen_to_arrive
    union select destination, cluster from seen_to_arrive
    union select source, cluster from seen_to_leave
    union select destination, destination_cluster from seen_to_leave
    union select client, null from seen_to_pass
    union select source, source_cluster from seen_dropped
    union select destination, destination_cluster from seen_dropped
),
pods as materialized (from pod_addresses('seen_addresses')),
doors as materialized (from doors_of('owners')),
-- Backends that give no arrival.
blind_backends as materialized (from unseen_backends(since, until)),
blind_addresses as materialized (from unseen_addresses('blind_backends')),
-- Both ends of each attempt.
came as materialized (from arrivals_owned('seen_to_arrive', 'owners', 'pods', 'proxies')),
went as materialized (from departures_aimed('seen_to_leave', 'doors')),
drops as materialized (from refusals_owned('seen_dropped', 'owners', 'pods', 'blind_addresses')),
in_time as materialized (from matched_in_time('came', 'went')),
matched_first as materialized (
    from in_time union all from matched_by_service('came', 'went', 'in_time', 'seen_to_pass')
),
-- What else was seen of those with one end.
came_alone as materialized (
    select c.* exclude (slice), unnest(slices_around(c.ns)) as slice from came c anti join matched_first using (arrival)
),
passed as materialized (from passed_on('came_alone', 'came', 'seen_to_pass', 'doors', 'owners', 'pods')),
sent as materialized (from sent_by_hosts('came_alone', 'seen_of_hosts', 'doors')),
through_nodeport as materialized (from nodeport_backends('came_alone', 'doors')),
went_alone as materialized (
    select w.*, coalesce(w.destination_cluster, p.cluster) as pod_cluster
    from went w
    left join pods p on p.address = w.destination
    anti join matched_first using (departure)
),
refused as materialized (from departures_refused('went_alone', 'drops')),
matched_between as materialized (from translated_between('came_alone', 'went_alone', 'passed', 'sent', 'refused')),
matched as materialized (from matched_first union all from matched_between),
never_came as materialized (from went_alone anti join matched_between using (departure)),
masqueraded as materialized (from departures_masqueraded('never_came', 'seen_masqueraded', 'owners')),
-- Where no arrival can be, and calls without any packet.
unseen as materialized (from departures_unseen('never_came', 'blind_backends', 'blind_addresses', 'seen_to_pass')),
self_calls as materialized (from calls_to_self(read_from(since), read_to(until))),
to_self as materialized (from calls_without_packet('self_calls', 'came'))
select row_number() over (order by ns, protocol, client_address, client_port, server_address, server_port, outcome) as attempt, *
from (
    from attempts_arrived('came', 'went', 'matched', 'passed', 'sent', 'through_nodeport')
    union all by name
    from attempts_left('never_came', 'refused', 'drops', 'masqueraded', 'unseen', last_second_ns(since, until))
    union all by name
    from attempts_to_self('to_self')
    union all by name
    from attempts_refused('drops', 'refused')
)
where time >= since and time < until;
