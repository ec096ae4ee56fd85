-- Helpers of the ingest, private to the writing connection.
create or replace temp macro first_64_bits(uuid) as
    try_cast('0x' || replace(uuid[1:18], '-', '') as ubigint);

-- 'cluster/node' -> the two parts; a name without a slash belongs to the cluster that the caller knows of, or 'default'.
create or replace temp macro cluster_of(node_name) as
    case when contains(node_name, '/') then split_part(node_name, '/', 1) else coalesce(nullif({fallback_cluster}, ''), if(node_name = '', '', 'default')) end;

create or replace temp macro node_of(node_name) as
    if(contains(node_name, '/'), substr(node_name, position('/' in node_name) + 1), node_name);

-- The last digits of a time that are cut off: 9 leave seconds, 0 nanoseconds.
create or replace temp macro coarseness(moment) as
    case when epoch_ns(moment) % 1000000000 = 0 then 9 when epoch_ns(moment) % 1000000 = 0 then 6 when epoch_ns(moment) % 1000 = 0 then 3 when epoch_ns(moment) % 100 = 0 then 2 else 0 end;

-- Whether two times may be those of one event: the same as far as the coarser of the two tells.
create or replace temp macro same_moment(one, other) as
    one = other or abs(epoch_ns(one) - epoch_ns(other)) < pow(10, greatest(coarseness(one), coarseness(other)));

-- Whether a flow lacks what Cilium's flows of its kind have: then another copy of it may tell more.
create or replace temp macro lacks_fields(
    event_type, observation_point, trace_reason, protocol, tcp_flags, source_port, destination_port, source, destination, destination_id, source_identity,
    destination_identity, socket_cookie
) as
    event_type is null
    or event_type = 7 and socket_cookie is null
    or event_type = 4 and (
        -- What is no IP has neither protocol nor addresses.
        observation_point is null or protocol is not null and (source is null or destination is null)
        or observation_point = 'TO_ENDPOINT' and (trace_reason is null or destination_id is null or source_identity is null or destination_identity is null)
        or protocol in ('TCP', 'UDP', 'SCTP') and (source_port is null or destination_port is null)
        or protocol = 'TCP' and coalesce(tcp_flags, 0) = 0
    );

-- A time that a flow can have, else null: DuckDB takes `infinity` for a time, and protobuf's reach far beyond 64 bits of
-- nanoseconds, at whose ends no window can be made around one.
create or replace temp macro possible(moment) as
    if(moment >= timestamp_ns '1678-01-01' and moment < timestamp_ns '2262-01-01', moment, null);

-- The same for nanoseconds since 1970.
create or replace temp macro moment_of(nanoseconds) as
    make_timestamp_ns(if(nanoseconds >= -9214560000000000000 and nanoseconds < 9214646400000000000, nanoseconds::bigint, null));

-- A whole number of a JSON object in text, null for all other texts and for what no time has.
create or replace temp macro json_number(text, path) as
    try_cast(json_extract_string(if(json_valid(text), text, null), path) as bigint);

-- A time as JSON has it: RFC 3339; since 1970 in seconds, milli-, micro- or nanoseconds; or protobuf's seconds and nanos.
create or replace temp macro json_moment(text) as coalesce(
    possible(try_cast(text as timestamp_ns)),
    moment_of(case
        when starts_with(text, '{') then json_number(text, '$.seconds')::hugeint * 1000000000 + coalesce(json_number(text, '$.nanos'), 0)
        when abs(try_cast(text as double)) < 1e11 then try_cast(try_cast(text as decimal(38, 9)) * 1000000000 as hugeint)
        when abs(try_cast(text as double)) < 1e14 then try_cast(try_cast(text as decimal(38, 9)) * 1000000 as hugeint)
        when abs(try_cast(text as double)) < 1e17 then try_cast(try_cast(text as decimal(38, 9)) * 1000 as hugeint)
        else try_cast(text as hugeint)
    end)
);

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
