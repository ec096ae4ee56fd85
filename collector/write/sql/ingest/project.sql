-- Messages -> the columns of flows, as the view {projected} over {messages} (position, flow, node_name, time).
-- Macros like verdict_name are made by collector/decode/enums.py. `problem` says why a flow cannot be stored. Nothing here may
-- depend on the session: the writer prepares its insert once.
create or replace temp view {projected} as
select
    position,
    possible(coalesce(flow.time, time)::timestamp_ns) as time,
    coalesce(nullif(flow.node_name, ''), node_name, '') as full_node_name,
    first_64_bits(flow.uuid) as uuid,
    cluster_of(full_node_name) as cluster,
    node_of(full_node_name) as node,
    verdict_name(flow.verdict) as verdict,
    coalesce(drop_reason_name(flow.drop_reason_desc), nullif(flow.drop_reason, 0)::varchar) as drop_reason,
    flow.event_type.type as event_type,
    flow.event_type.sub_type as event_subtype,
    trace_observation_point_name(flow.trace_observation_point) as observation_point,
    trace_reason_name(flow.trace_reason) as trace_reason,
    flow.is_reply as is_reply,
    traffic_direction_name(flow.traffic_direction) as traffic_direction,
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
    coalesce(nullif(flow.source.cluster_name, ''), cluster_label(flow.source.labels), if(source_id is not null, nullif(cluster, ''), null)) as source_cluster,
    nullif(flow.source.namespace, '') as source_namespace,
    nullif(flow.source.pod_name, '') as source_pod,
    nullif(flow.destination.ID, 0) as destination_id,
    nullif(flow.destination.identity, 0) as destination_identity,
    coalesce(nullif(flow.destination.cluster_name, ''), cluster_label(flow.destination.labels), if(destination_id is not null, nullif(cluster, ''), null)) as destination_cluster,
    nullif(flow.destination.namespace, '') as destination_namespace,
    nullif(flow.destination.pod_name, '') as destination_pod,
    service_name(flow.source_service) as source_service,
    service_name(flow.destination_service) as destination_service,
    l7_flow_type_name(flow.l7.type) as l7_type,
    case
        when flow.l7.dns is not null then concat_ws(' ', 'DNS', nullif(flow.l7.dns.query, ''), if(flow.l7.dns.rcode > 0, 'rcode ' || flow.l7.dns.rcode, null))
        when flow.l7.http is not null then concat_ws(' ', 'HTTP', nullif(flow.l7.http.method, ''), nullif(flow.l7.http.url, ''), nullif(flow.l7.http.code, 0)::varchar)
        when flow.l7.kafka is not null then concat_ws(' ', 'Kafka', nullif(flow.l7.kafka.api_key, ''), nullif(flow.l7.kafka.topic, ''), nullif(flow.l7.kafka.error_code, 0)::varchar)
    end as l7_summary,
    nullif(flow.l7.latency_ns, 0) as latency_ns,
    nullif(flow.socket_cookie, 0) as socket_cookie,
    nullif(flow.interface.name, '') as interface,
    nullif(flow.proxy_port, 0) as proxy_port,
    flow.aggregate.ingress_flow_count as ingress_flow_count,
    flow.aggregate.egress_flow_count as egress_flow_count,
    flow.aggregate.unknown_direction_flow_count as unknown_direction_flow_count,
    nullif(flow.emitter.version, '') as emitter_version,
    flow.source.labels as source_labels,
    flow.source.workloads[1].name as source_workload,
    flow.destination.labels as destination_labels,
    flow.destination.workloads[1].name as destination_workload,
    case when coalesce(flow.time, time) is null then 'a flow without a time' when possible(coalesce(flow.time, time)::timestamp_ns) is null then 'its time is not between 1678 and 2261' end as problem
from {messages}
where flow is not null;
