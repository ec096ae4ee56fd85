-- What one event says, in Hubble's numbers and Cilium's reserved identities, and how near in time two events of one
-- connection are. Durations are in nanoseconds.

create or replace macro seconds_ns(seconds) as (seconds * 1e9)::bigint;

-- The two ends of one connection are stamped at most this far apart; clocks further apart make its ends one-sided.
create or replace macro nearby_ns() as 5000000000;

-- What repeats with every packet is told once per tuple and slice of this length.
create or replace macro slice_ns() as 10000000000;

create or replace macro minute_of(ns) as ns // 60000000000;
create or replace macro minute_start(moment) as make_timestamp_ns(minute_of(epoch_ns(moment)) * 60000000000);
create or replace macro hour_ns() as 3600000000000;
create or replace macro hour_of(ns) as ns // hour_ns();

-- One packet at two points of one node, or the two events of one socket call.
create or replace macro same_packet_ns() as 1000000000;

-- TCP repeats a lost SYN for about a minute: 1, 3, 7, 15, 31 and 63 s after the first.
create or replace macro syn_repeats_ns() as 70000000000;

-- Buckets keep joins by nearness small: what is nearby is in the same one or in a neighbour.
create or replace macro bucket(ns) as ns // nearby_ns();
create or replace macro buckets_around(ns) as [bucket(ns) - 1, bucket(ns), bucket(ns) + 1];
create or replace macro slice_of(ns) as ns // slice_ns();
create or replace macro slices_around(ns) as [slice_of(ns) - 1, slice_of(ns), slice_of(ns) + 1];

-- Hubble's event types (flow.event_type in the table flows).
create or replace macro is_trace(event_type) as event_type = 4;
create or replace macro is_drop(event_type, verdict) as event_type = 1 or event_type = 5 and verdict = 'DROPPED';
create or replace macro is_socket_event(event_type) as event_type = 7;

-- A line of an exporter that aggregates: it stands for many flows, and tells of none of them when, by whom and how often.
create or replace macro is_sum(flow_count) as flow_count is not null;
create or replace macro before_translation(event_subtype) as event_subtype = 1;
create or replace macro after_translation(event_subtype) as event_subtype = 2;

-- Hubble has random uuids (version 4); what came without one got version 8 (fingerprint.sql).
create or replace macro is_made_up(uuid) as (uuid & 61440) = 32768;

-- Points of observation on a node's border.
create or replace macro leaves_node(observation_point) as observation_point in ('TO_NETWORK', 'TO_STACK', 'TO_OVERLAY');
create or replace macro enters_node(observation_point) as observation_point in ('FROM_NETWORK', 'FROM_OVERLAY');

-- Reserved identities: the observing node's own host, Cilium's health check, its Envoy for ingresses and gateways, and
-- other nodes: remote-node, kube-apiserver, and those local to a node that stand for nodes (2^25 and above); world, and in
-- dual stack world-ipv4 and world-ipv6.
create or replace macro own_host(identity) as identity = 1;
create or replace macro cilium_health(identity) as coalesce(identity, 0) = 4;
create or replace macro cilium_ingress(identity) as coalesce(identity, 0) = 8;
create or replace macro from_world(identity) as coalesce(identity, 0) in (2, 9, 10);
create or replace macro remote_node(identity) as identity in (6, 7) or identity >= 33554432;

-- The protocols that reports speak of; both kinds of ICMP are one, other protocols are none.
create or replace macro report_protocol(protocol) as
    case when protocol in ('TCP', 'UDP', 'SCTP') then protocol when starts_with(protocol, 'ICMP') then 'ICMP' end;

-- Whether a packet goes from client to server by its kind: no answer to a ping, nor any other ICMP message.
create or replace macro may_call(protocol, icmp_type) as
    case
        when protocol in ('TCP', 'UDP', 'SCTP') then true
        when protocol = 'ICMPv4' then icmp_type = 8 -- echo request, RFC 792
        when protocol = 'ICMPv6' then icmp_type = 128 -- echo request, RFC 4443
        else false
    end;

-- Whether an event that connection tracking calls new may be of a call: tracking that sees one way only calls the answer
-- (SYN and ACK) new as well, and packets of old connections that it has forgotten. Without flags nothing speaks against it.
create or replace macro may_be_new(protocol, tcp_flags, icmp_type) as
    if(protocol = 'TCP' and tcp_flags > 0, (tcp_flags & (2 | 16)) = 2, may_call(protocol, icmp_type));

create or replace macro is_syn_ack(tcp_flags) as coalesce((tcp_flags & (2 | 16)) = 2 | 16, false);

-- Whether a packet itself does not tell if it calls or answers: datagrams, and TCP where the flags are not known.
create or replace macro goes_either_way(protocol, tcp_flags) as
    protocol in ('UDP', 'SCTP') or protocol = 'TCP' and coalesce(tcp_flags, 0) = 0;

-- Ports that clients are given; Linux begins here (net.ipv4.ip_local_port_range).
create or replace macro of_client(port) as port >= 32768;

-- Whether a packet may open a connection: a TCP packet with SYN and no ACK, a ping, any datagram.
create or replace macro may_open(protocol, tcp_flags, icmp_type) as
    if(protocol = 'TCP', (tcp_flags & (2 | 16)) = 2, may_call(protocol, icmp_type));
