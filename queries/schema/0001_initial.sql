-- The first shape of a meshobs database. Names are a contract with users; columns use Hubble's own words where they exist.
-- Absent values are null. Times are UTC nanoseconds. An uuid is kept as its first 64 bits: show it with uuid_text().

-- One Hubble flow event, as the node that observed it sent it.
create table flows (
    time timestamp_ns not null,  -- when the agent of the node read the event, by its own clock
    uuid ubigint not null,  -- first 64 bits; uuid_text() gives the start of its text
    cluster varchar not null,  -- of the node that observed it, never of the Relay that passed it on
    node varchar not null,  -- without the cluster
    verdict varchar,  -- FORWARDED, DROPPED, TRACED, TRANSLATED, ...
    drop_reason varchar,
    event_type integer,  -- 1 drop, 4 trace, 5 policy verdict, 7 socket, 129 L7
    event_subtype integer,  -- of a socket event: 1 pre, 2 post translation; of a drop: its reason
    observation_point varchar,  -- where on the node: TO_ENDPOINT, TO_NETWORK, ...
    trace_reason varchar,  -- what connection tracking says: NEW, ESTABLISHED, REPLY, ...; null: unknown
    is_reply boolean,  -- null where Hubble does not know
    traffic_direction varchar,  -- as labelled; a request that reaches a server says EGRESS too
    protocol varchar,  -- TCP, UDP, SCTP, ICMPv4, ICMPv6, VRRP, IGMP
    source varchar,  -- address before translation
    source_port uinteger,  -- as in the packet
    source_xlated varchar,  -- address after translation; on a reply the ClusterIP
    destination varchar,
    destination_port uinteger,  -- as in the packet
    tcp_flags usmallint,  -- bits from 1: FIN SYN RST PSH ACK URG ECE CWR NS
    icmp_type uinteger,
    source_id uinteger,  -- endpoint number: only where the endpoint is on the observing node
    source_identity uinteger,  -- below 2^24 the same on every node; cluster id in the upper bits
    source_cluster varchar,
    source_namespace varchar,
    source_pod varchar,
    destination_id uinteger,
    destination_identity uinteger,
    destination_cluster varchar,
    destination_namespace varchar,
    destination_pod varchar,
    source_service varchar,  -- namespace/name where the address is a frontend
    destination_service varchar,
    l7_type varchar,
    l7_summary varchar,  -- method, URL and code, or query, or topic
    latency_ns ubigint,
    socket_cookie ubigint,  -- joins the socket events of one socket on one node
    interface varchar,
    proxy_port uinteger,
    ingress_flow_count uinteger,  -- aggregated exporter logs: how many flows this line stands for
    egress_flow_count uinteger,
    unknown_direction_flow_count uinteger,
    batch uinteger not null  -- from which source and run: table batches
);

-- One identity; identities local to a node (2^24 and above) carry its name, all others an empty node.
create table identities (
    identity uinteger not null,
    cluster varchar not null,
    node varchar not null,
    namespace varchar,
    workload varchar,
    labels varchar[],
    primary key (identity, cluster, node)
);

-- Events that Hubble says it lost, before or in a node's ring.
create table lost_events (
    time timestamp_ns not null,  -- when the loss was noticed
    cluster varchar not null,
    node varchar not null,
    source varchar not null,  -- PERF_EVENT_RING_BUFFER and OBSERVER_EVENTS_QUEUE: lost for all readers; HUBBLE_RING_BUFFER: for this one
    num_events_lost ubigint not null,
    cpu integer,
    first timestamp_ns,  -- of the merged losses (1.19 and later)
    last timestamp_ns,
    reader varchar not null,  -- the Relay or file that told
    batch uinteger not null
);

-- One row per node that a Relay's message names.
create table node_status (
    time timestamp_ns not null,
    reader varchar not null,
    relay varchar,  -- name of the Relay that sent it
    state varchar not null,  -- NODE_CONNECTED, NODE_UNAVAILABLE, NODE_ERROR, NODE_GONE
    cluster varchar not null,
    node varchar not null,
    message varchar,
    batch uinteger not null
);

-- Flows of a node that one reader got twice in a row: the Relay lost the node, found it again and sent what its ring held.
create table replays (
    cluster varchar not null,
    node varchar not null,
    first timestamp_ns not null,
    last timestamp_ns not null,
    flows ubigint not null,
    batch uinteger not null
);

-- What a Relay's GetNodes said of a node at one moment.
create table relay_nodes (
    time timestamp_ns,
    reader varchar not null,
    cluster varchar not null,
    node varchar not null,
    state varchar,
    version varchar,
    address varchar,
    uptime_ns ubigint,
    num_flows ubigint,
    max_flows ubigint,
    seen_flows ubigint
);

-- Which Cilium ran on a node; told by GetNodes and, from 1.19 on, by every flow.
create table node_versions (
    cluster varchar not null,
    node varchar not null,
    version varchar not null,
    seen_at timestamp_ns
);

-- Every cluster that anything names.
create table clusters (
    cluster varchar primary key,
    cluster_id uinteger  -- from cilium-config, else from identities
);

-- Every state of a Kubernetes object that was seen, as the collector understood it. The history tables are made from it.
create table kube_states (
    cluster varchar not null,
    kind varchar not null,
    namespace varchar not null,
    name varchar not null,
    uid varchar not null,
    valid_from timestamp_ns not null,
    known_from timestamp_ns,
    deleted boolean not null,
    created timestamp_ns,
    state json not null,
    primary key (cluster, kind, namespace, name, uid, valid_from, deleted)
);

-- The history tables: a row is a period in which nothing changed. known_from says since when the state was watched;
-- before that, and where it is null, it is assumed from a later look.
create table services (
    cluster varchar not null,
    namespace varchar not null,
    service varchar not null,
    "global" boolean not null,
    shared boolean not null,  -- effective: false where the service is not global
    affinity varchar not null,  -- none (no annotation), literal-none, local, remote; none where the service is not global
    annotations map(varchar, varchar) not null,  -- those of Cilium as written, both spellings
    type varchar,
    addresses varchar[] not null,  -- ClusterIPs
    balancer_addresses varchar[] not null,
    ports struct(name varchar, protocol varchar, port uinteger, node_port uinteger)[] not null,
    session_affinity varchar,
    internal_traffic_policy varchar,
    valid_from timestamp_ns not null,
    valid_to timestamp_ns,  -- null: holds still
    known_from timestamp_ns  -- null: only from a later look
);

create table backends (
    cluster varchar not null,
    namespace varchar not null,
    service varchar not null,
    address varchar not null,
    port uinteger,  -- null: all ports
    port_name varchar not null,
    protocol varchar not null,
    node varchar,
    pod varchar,
    ready boolean not null,
    serving boolean not null,
    terminating boolean not null,
    valid_from timestamp_ns not null,
    valid_to timestamp_ns,  -- null: holds still
    known_from timestamp_ns
);

create table nodes (
    cluster varchar not null,
    node varchar not null,
    addresses varchar[] not null,  -- of all kinds, Cilium's router included
    pod_cidrs varchar[] not null,
    zone varchar,
    region varchar,
    valid_from timestamp_ns not null,
    valid_to timestamp_ns,
    known_from timestamp_ns
);

-- services and backends joined once, for the clients of each cluster (queries/history/50_service_periods.sql).
create table service_periods (
    cluster varchar not null,
    namespace varchar not null,
    service varchar not null,
    setting varchar not null,  -- none, literal-none, local, remote, not-global
    shared boolean not null,
    session_affinity varchar,
    internal_traffic_policy varchar,
    local_backends uinteger not null,  -- active in the client's own cluster
    remote_backends uinteger not null,  -- active elsewhere and offered
    hidden_backends uinteger not null,  -- active elsewhere under that name, not offered
    setting_from timestamp_ns not null,  -- start of the setting that the period belongs to
    setting_to timestamp_ns,
    valid_from timestamp_ns not null,
    valid_to timestamp_ns,
    known_from timestamp_ns
);

create sequence collection_ids;
-- One run of import or collect. received = stored + duplicate + filtered + undecodable, for the run and for each source.
create table collections (
    collection uinteger primary key default nextval('collection_ids'),
    kind varchar not null,
    started timestamp not null,
    ended timestamp,
    state varchar not null,  -- running, complete, interrupted, failed, killed
    meshobs_version varchar not null,
    arguments varchar[] not null,
    received ubigint not null default 0,
    stored ubigint not null default 0,
    duplicate ubigint not null default 0,
    filtered ubigint not null default 0,
    undecodable ubigint not null default 0,
    first_flow timestamp_ns,  -- of the flows met, duplicates included
    last_flow timestamp_ns,
    sources struct(name varchar, kind varchar, received ubigint, stored ubigint, duplicate ubigint, filtered ubigint, undecodable ubigint)[] not null default [],
    problems varchar[] not null default []  -- the first undecodable messages, with their position
);

-- Which run and source a batch of rows came from.
create table batches (
    batch uinteger primary key,
    collection uinteger not null,
    origin varchar not null,  -- file or address
    reader varchar not null  -- the Relay or file that a reader's own losses belong to
);

-- Experiments of the lab: what was set when, and what the clients really saw.
create table phases (
    experiment varchar not null,
    phase varchar not null,
    started timestamp_ns not null,
    ended timestamp_ns,
    settings map(varchar, varchar) not null
);

create table truth (
    experiment varchar not null,
    phase varchar not null,
    time timestamp_ns not null,
    client_cluster varchar not null,
    client varchar not null,
    client_address varchar,
    client_port uinteger,
    target varchar not null,
    protocol varchar not null,
    answered_cluster varchar,
    answered_pod varchar,
    answered_address varchar,
    server_saw varchar,
    error varchar,
    reused boolean not null default false
);

-- Which views and macros are installed: a fingerprint of their files.
create table queries (fingerprint varchar not null);
