-- Helpers of the ingest, private to the writing connection.
create or replace temp macro first_64_bits(uuid) as
    try_cast('0x' || replace(uuid[1:18], '-', '') as ubigint);

-- 'cluster/node' -> the two parts; a name without a slash belongs to the cluster that the caller knows of, or 'default'.
create or replace temp macro cluster_of(node_name) as
    case when contains(node_name, '/') then split_part(node_name, '/', 1) else coalesce(nullif({fallback_cluster}, ''), if(node_name = '', '', 'default')) end;

create or replace temp macro node_of(node_name) as
    if(contains(node_name, '/'), substr(node_name, position('/' in node_name) + 1), node_name);

create or replace temp macro cluster_label(labels) as
    replace(list_filter(labels, lambda label: starts_with(label, 'k8s:io.cilium.k8s.policy.cluster='))[1], 'k8s:io.cilium.k8s.policy.cluster=', '');

create or replace temp macro service_name(service) as
    if(service.name <> '', if(service.namespace <> '', service.namespace || '/' || service.name, service.name), null);

create or replace temp macro flag_bits(flags) as
    flags.FIN::int + 2 * flags.SYN::int + 4 * flags.RST::int + 8 * flags.PSH::int + 16 * flags.ACK::int + 32 * flags.URG::int
    + 64 * flags.ECE::int + 128 * flags.CWR::int + 256 * flags.NS::int;

-- Numbers below 2^24 mean the same on every node; those of reserved identities are the observing cluster's, local ones the node's.
create or replace temp macro identity_cluster(identity, owner, observer) as
    if(identity between 256 and 16777215, coalesce(owner, ''), observer);

create or replace temp macro identity_node(identity, observer) as
    if(identity >= 16777216, observer, '');

-- 'cilium v1.17.6+g1234567' and '1.19.6+g1234567' -> '1.17.6' and '1.19.6'; '' where there is no number.
create or replace temp macro version_number(text) as
    regexp_extract(text, '\d+\.\d+(\.\d+)?(-[a-z0-9.]+)?');
