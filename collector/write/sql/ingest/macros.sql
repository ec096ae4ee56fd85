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

-- A time as JSON has it: RFC 3339; since 1970 in seconds, milli-, micro- or nanoseconds; or protobuf's seconds and nanos.
create or replace temp macro json_moment(text) as coalesce(
    try_cast(text as timestamp_ns),
    make_timestamp_ns(case
        when starts_with(text, '{') then try_cast(json_extract_string(text, '$.seconds') as bigint) * 1000000000 + coalesce(try_cast(json_extract_string(text, '$.nanos') as bigint), 0)
        when try_cast(text as double) < 1e11 then try_cast(try_cast(text as decimal(38, 9)) * 1000000000 as bigint)
        when try_cast(text as double) < 1e14 then try_cast(try_cast(text as decimal(38, 9)) * 1000000 as bigint)
        when try_cast(text as double) < 1e17 then try_cast(try_cast(text as decimal(38, 9)) * 1000 as bigint)
        else try_cast(text as bigint)
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
