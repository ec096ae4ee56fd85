-- What decides and how many flows there were is kept, so that no report reads all flows.

-- The flows that decide what happened to a connection, as they are in `flows`; of what repeats with every packet the first and
-- the last of each slice (deciding_flows). Rows hold in the stretches of view `settled`.
create table events (
    time timestamp_ns not null,
    uuid ubigint not null,
    cluster varchar not null,
    node varchar not null,
    verdict varchar,
    drop_reason varchar,
    event_type integer,
    event_subtype integer,
    observation_point varchar,
    trace_reason varchar,
    is_reply boolean,
    traffic_direction varchar,
    protocol varchar,
    source varchar,
    source_port uinteger,
    source_xlated varchar,
    destination varchar,
    destination_port uinteger,
    tcp_flags usmallint,
    icmp_type uinteger,
    source_id uinteger,
    source_identity uinteger,
    source_cluster varchar,
    source_namespace varchar,
    source_pod varchar,
    destination_id uinteger,
    destination_identity uinteger,
    destination_cluster varchar,
    destination_namespace varchar,
    destination_pod varchar,
    destination_service varchar,
    socket_cookie ubigint,
    ingress_flow_count uinteger
);

-- How many flows of each node came by which batch, minute by minute, and how many of them had what rules need. Rows hold in the
-- stretches of view `settled`; a minute that is cut by two has a row for each.
create table flow_counts (
    first_time timestamp_ns not null,  -- of the first of these flows
    last_time timestamp_ns not null,  -- of the last
    batch uinteger not null,
    cluster varchar not null,
    node varchar not null,
    flows ubigint not null,
    sums ubigint not null,  -- lines that stand for many flows
    untyped ubigint not null,  -- without event type
    unnamed ubigint not null,  -- without a uuid of Hubble's
    traces ubigint not null,
    without_point ubigint not null,
    outward ubigint not null,  -- on their way out, not sent by hosts
    with_reason ubigint not null,
    delivered ubigint not null,  -- at TO_ENDPOINT
    without_reason ubigint not null,
    without_destination_id ubigint not null,
    without_source_identity ubigint not null,
    without_destination_identity ubigint not null,
    pods_left ubigint not null,  -- new connections of pods on their way out
    with_source_id ubigint not null,
    with_destination_id ubigint not null,
    with_source_identity ubigint not null,
    with_destination_identity ubigint not null,
    with_source ubigint not null,
    without_source ubigint not null,
    with_destination ubigint not null,
    without_destination ubigint not null,
    with_protocol ubigint not null,
    with_ports ubigint not null,
    with_source_port ubigint not null,
    with_destination_port ubigint not null,
    tcp ubigint not null,
    with_flags ubigint not null,
    socket_events ubigint not null,
    with_cookie ubigint not null,
    with_socket_point ubigint not null,
    telling ubigint not null  -- socket events with both
);

-- They are made for what is settled already, too.
delete from stretches;
