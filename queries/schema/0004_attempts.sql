-- What flows say of attempts and addresses is kept, so that no report makes it anew of all flows.

-- Every attempt to reach something, as attempts_made makes it of the flows around it; view `connections` says what became of
-- each. Rows hold in the stretches of view `settled`. New columns come with new migrations; a query of this table names them.
create table attempts (
    time timestamp_ns not null,  -- of the arrival, else of what left or was dropped
    client_time timestamp_ns not null,  -- of what left, by the client's node, where that was seen
    ends varchar not null,  -- which were seen: both, server, client, drop (only that), socket (no packet shows)
    protocol varchar,
    client_kind varchar not null,  -- pod, host, outside, ingress, unknown
    client_cluster varchar,  -- empty: outside
    client_namespace varchar,
    client_pod varchar,
    client_node_cluster varchar,
    client_node varchar,
    client_address varchar,
    client_port uinteger,
    aim_address varchar,  -- where it was sent to as it left its node
    aim_port uinteger,
    translation varchar not null,  -- none, source, destination, unknown
    translated_by varchar,
    packet_door varchar,  -- the door that its packets show: nodeport, loadbalancer, service; null: none
    door_namespace varchar,
    door_service varchar,
    ingress_cluster varchar,
    seen_address varchar,  -- the source that the server's node saw
    seen_port uinteger,
    seen_identity uinteger,
    server_cluster varchar,
    server_node varchar,
    server_namespace varchar,
    server_pod varchar,
    server_address varchar,
    server_port uinteger,
    drop_reason varchar,
    arrival_uuid ubigint,  -- of the flow that tells of it: arrival, or drop
    arrival_time timestamp_ns,
    arrival_seen_by varchar,
    departure_uuid ubigint,
    departure_time timestamp_ns,
    departure_seen_by varchar,
    owner_cluster varchar,  -- of the node with the address that the server's node saw
    alone boolean not null,  -- something between clusters may have given it another address
    received boolean not null,  -- the host of the backend was seen to get it
    call_uuid ubigint,  -- the socket call that it came of
    call_time timestamp_ns,
    call_seen_by varchar,
    call_door varchar,  -- the frontend that the socket aimed at, null: not known
    call_namespace varchar,
    call_service varchar,
    call_port uinteger,
    call_cluster varchar,
    answered boolean not null,  -- an answer reached the client
    answered_by varchar,  -- the ClusterIP in it that was put back
    sent_to_backend boolean not null,  -- the pod sent to the backend's own address
    sent_door varchar,  -- the frontend that the pod sent to
    sent_namespace varchar,
    sent_service varchar,
    sent_port uinteger
);

-- Stretches of time whose attempts are stored.
create table stretches (
    first_time timestamp_ns not null,
    end_time timestamp_ns not null,  -- not part of it
    flows ubigint not null,  -- that were in it
    attempts ubigint not null
);

-- Flows that came when attempts of their time were stored already, or were being made: what is near is made again.
create table late_flows (
    first_time timestamp_ns not null,
    last_time timestamp_ns not null
);

-- What flows told of addresses, hour by hour (addresses_told).
create table known_addresses (
    kind varchar not null,  -- pod, host, proxy
    hour bigint not null,  -- hours since 1970
    address varchar not null,
    cluster varchar not null,
    node varchar not null
);

-- What was known of objects when attempts were made (objects_of_attempts): where it differs now, they are made again.
create table objects_used (
    kind varchar not null,
    key varchar not null,
    valid_from timestamp_ns not null,
    valid_end timestamp_ns not null
);

drop view if exists node_ranges;

-- The ranges that nodes, and so clusters, take pod addresses from, as numbers (queries/history/32_node_ranges.sql).
create table node_ranges (
    cluster varchar not null,
    node varchar not null,
    ipv6 boolean not null,
    first uhugeint not null,  -- IPv4 as IPv6 maps it (address_number)
    last uhugeint not null
);
