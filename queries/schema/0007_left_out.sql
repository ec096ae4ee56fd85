-- `collect --keep events` does not store flows that decide nothing.

-- That they came, so that none is counted twice; until flows of their time are pruned.
create table left_out_flows (
    time timestamp_ns not null,
    uuid ubigint not null,
    batch uinteger not null,
    cluster varchar not null,
    node varchar not null
);

-- How many there were and what they had, as flow_counts has it of all.
create table left_out_counts as from flow_counts limit 0;

alter table collections add column keeps varchar default 'flows';  -- flows, events
