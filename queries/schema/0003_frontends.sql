-- Backends are those of a frontend: a port, a protocol and a family of addresses. What was made of objects is made anew.
alter table services add column traffic_distribution varchar default '';

drop table service_periods;

-- services and backends joined once, for the clients of each cluster, a row for each frontend and period
-- (queries/history/50_service_periods.sql).
create table service_periods (
    cluster varchar not null,
    namespace varchar not null,
    service varchar not null,
    port_name varchar not null,  -- of the service's port; empty where it has no name
    protocol varchar not null,
    port uinteger,  -- of the service; null where nothing tells of it
    family varchar not null,  -- of the addresses: IPv4, IPv6
    frontends uinteger not null,  -- of the service at that time
    setting varchar not null,  -- none, literal-none, local, remote, not-global
    shared boolean not null,
    session_affinity varchar,
    internal_traffic_policy varchar,
    traffic_distribution varchar,
    local_backends uinteger not null,  -- active in the client's own cluster
    remote_backends uinteger not null,  -- active elsewhere and offered
    hidden_backends uinteger not null,  -- active elsewhere under that name, not offered
    local_nodes map(varchar, uinteger) not null,  -- local_backends by node
    remote_clusters map(varchar, uinteger) not null,  -- remote_backends by cluster
    unknown_backends varchar[] not null,  -- clusters that offer the service and of which no EndpointSlice was seen
    misnamed_backends varchar[] not null,  -- clusters that offer backends of the service, but none by this port's name
    closed_clusters varchar[] not null,  -- clusters whose namespace is not global: what they offer does not count
    doubtful_clusters varchar[] not null,  -- clusters of which it is not known whether the namespace is global
    setting_from timestamp_ns not null,  -- start of the setting that the period belongs to
    setting_to timestamp_ns,
    valid_from timestamp_ns not null,
    valid_to timestamp_ns,
    known_from timestamp_ns
);
