-- The columns that tell whether a flow decides, and what is counted of it. As of `flow` with the fields of SEEN (collector/decode/fields.py).
    possible(coalesce(flow.time, time)::timestamp_ns) as time,
    coalesce(nullif(flow.node_name, ''), node_name, '') as full_node_name,
    first_64_bits(flow.uuid) as uuid,
    cluster_of(full_node_name) as cluster,
    node_of(full_node_name) as node,
    verdict_name(flow.verdict) as verdict,
    flow.event_type.type as event_type,
    flow.event_type.sub_type as event_subtype,
    trace_observation_point_name(flow.trace_observation_point) as observation_point,
    trace_reason_name(flow.trace_reason) as trace_reason,
    flow.is_reply as is_reply,
    case
        when flow.l4.TCP is not null then 'TCP' when flow.l4.UDP is not null then 'UDP' when flow.l4.SCTP is not null then 'SCTP'
        when flow.l4.ICMPv4 is not null then 'ICMPv4' when flow.l4.ICMPv6 is not null then 'ICMPv6'
        when flow.l4.VRRP is not null then 'VRRP' when flow.l4.IGMP is not null then 'IGMP'
    end as protocol,
    nullif(flow.IP.source, '') as source,
    nullif(coalesce(flow.l4.TCP.source_port, flow.l4.UDP.source_port, flow.l4.SCTP.source_port), 0) as source_port,
    nullif(flow.IP.source_xlated, '') as source_xlated,
    nullif(flow.IP.destination, '') as destination,
    nullif(coalesce(flow.l4.TCP.destination_port, flow.l4.UDP.destination_port, flow.l4.SCTP.destination_port), 0) as destination_port,
    flag_bits(flow.l4.TCP.flags) as tcp_flags,
    coalesce(flow.l4.ICMPv4.type, flow.l4.ICMPv6.type) as icmp_type,
    nullif(flow.source.ID, 0) as source_id,
    nullif(flow.source.identity, 0) as source_identity,
    nullif(flow.source.pod_name, '') as source_pod,
    nullif(flow.destination.ID, 0) as destination_id,
    nullif(flow.destination.identity, 0) as destination_identity,
    nullif(flow.socket_cookie, 0) as socket_cookie,
    flow.aggregate.ingress_flow_count as ingress_flow_count
