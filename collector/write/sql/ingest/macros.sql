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

create or replace temp macro has_text(json, path) as
    coalesce(json_type(json, path) = 'VARCHAR', false);

create or replace temp macro is_endpoint(json, path) as
    json_exists(json, path || '.identity') or json_exists(json, path || '.labels') or json_exists(json, path || '.pod_name')
    or json_exists(json, path || '.podName') or json_exists(json, path || '.ID');

-- Something of a flow is there: what else has a key `flow` has none of these.
create or replace temp macro is_flow(flow) as
    flow.time is not null or flow."IP" is not null or flow.source is not null or flow.destination is not null or flow.verdict is not null
    or flow.event_type is not null or flow."eventType" is not null or flow.node_name is not null or flow."nodeName" is not null or flow.l4 is not null
    or flow.l7 is not null or flow.uuid is not null or flow.is_reply is not null or flow."isReply" is not null
    or flow.traffic_direction is not null or flow."trafficDirection" is not null
    or flow.source_service is not null or flow.destination_service is not null or flow.aggregate is not null;

create or replace temp macro is_log(json) as
    has_text(json, '$.level') or has_text(json, '$.severity') or has_text(json, '$.msg') or has_text(json, '$.message');

-- A line of a program's log in text: logfmt, klog, a bare level.
create or replace temp macro is_log_line(line) as
    regexp_matches(line, '(^|\s)(level|lvl)="?[a-zA-Z]+"?(\s|$)') or regexp_matches(line, '^[IWEF]\d\d\d\d \d\d:\d\d:\d\d');

-- The name of the observing node if it has no cluster in it (Hubble up to 1.9, Retina), else ''.
create or replace temp macro bare_name(flow, node_name) as
    if(contains(coalesce(nullif(flow.node_name, ''), node_name, ''), '/'), '', coalesce(nullif(flow.node_name, ''), node_name, ''));

-- The cluster that the observing node's own endpoint names; Cilium's `default` is no name.
create or replace temp macro own_cluster(flow) as
    nullif(nullif(case
        when flow.source."ID" > 0 then coalesce(nullif(flow.source.cluster_name, ''), cluster_label(flow.source.labels))
        when flow.destination."ID" > 0 then coalesce(nullif(flow.destination.cluster_name, ''), cluster_label(flow.destination.labels))
    end, ''), 'default');
