-- From when on a layer is kept. What is older was pruned; of a layer without a row nothing was. Whole minutes.
create table kept (
    layer varchar primary key,  -- flows, events, connections
    first_time timestamp_ns not null
);

-- Connections whose events are pruned, as view `connections` had them; it still does.
create table kept_connections (
    attempt ubigint not null,
    outcome varchar not null,
    time timestamp_ns not null,
    ns bigint not null,
    client_ns bigint not null,
    protocol varchar,
    client_kind varchar,
    client_cluster varchar,
    client_namespace varchar,
    client_pod varchar,
    client_node_cluster varchar,
    client_node varchar,
    client_address varchar,
    client_port uinteger,
    aim_address varchar,
    aim_port uinteger,
    ingress_cluster varchar,
    seen_address varchar,
    seen_port uinteger,
    seen_identity uinteger,
    server_cluster varchar,
    server_node varchar,
    server_namespace varchar,
    server_pod varchar,
    server_address varchar,
    server_port uinteger,
    drop_reason varchar,
    arrival_uuid ubigint,
    arrival_time timestamp_ns,
    arrival_seen_by varchar,
    departure_uuid ubigint,
    departure_time timestamp_ns,
    departure_seen_by varchar,
    unseen varchar,
    door varchar not null,
    door_namespace varchar,
    door_service varchar,
    door_port uinteger,
    translation varchar,
    translated_by varchar,
    aimed_cluster varchar,
    call_uuid ubigint,
    call_time timestamp_ns,
    call_seen_by varchar
);
