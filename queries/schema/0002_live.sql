-- What live collection needs: how far each reader got, what it could not have, and what it was told of Relays and clocks.

-- Until where a reader has the flows of a node; committed with the flows themselves.
create table positions (
    reader varchar not null,
    cluster varchar not null,
    node varchar not null,
    asked varchar not null,  -- the filters in JSON: a run that asks for something else does not go on from here
    until timestamp_ns not null,  -- by the node's own clock
    primary key (reader, cluster, node)
);

-- Stretches that Hubble did not have any more when they were asked for, or nodes that did not answer.
create table gaps (
    cluster varchar not null,
    node varchar not null,
    reader varchar not null,
    first_time timestamp_ns not null,
    end_time timestamp_ns not null,
    reason varchar not null,
    collection uinteger not null
);

-- What a Relay's ServerStatus said at one moment.
create table relays (
    time timestamp_ns not null,
    reader varchar not null,
    address varchar not null,
    version varchar,
    connected uinteger not null,
    unavailable uinteger not null,
    num_flows ubigint not null,
    max_flows ubigint not null,
    seen_flows ubigint not null,
    uptime_ns ubigint not null,
    flows_rate double not null,
    certificate_expires timestamp,  -- null: no TLS
    collection uinteger not null
);

-- How long after a node's own time its newest flows came in, at the least: more than a Relay's sorting explains is a clock
-- that is behind, less than nothing one that is ahead.
create table clocks (
    cluster varchar not null,
    node varchar not null,
    collection uinteger not null,
    time timestamp_ns not null,
    lag_seconds double not null,
    primary key (cluster, node, collection)
);

alter table collections add column asked varchar default '';
alter table collections add column excluded varchar default '';

-- Until when the Kubernetes objects of a cluster were watched: what the next run finds changed, changed since then.
create table watches (
    cluster varchar primary key,
    until timestamp_ns not null
);
