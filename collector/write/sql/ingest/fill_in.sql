-- Stored events that the staged batch has with a finer time, or with fields that a mask left out, take these.
update flows
set
    time = if(coarseness(whole.time) < coarseness(flows.time), whole.time, flows.time),
    event_subtype = coalesce(nullif(flows.event_subtype, 0), whole.event_subtype), tcp_flags = coalesce(nullif(flows.tcp_flags, 0), whole.tcp_flags),
    verdict = coalesce(flows.verdict, whole.verdict), drop_reason = coalesce(flows.drop_reason, whole.drop_reason),
    event_type = coalesce(flows.event_type, whole.event_type),
    observation_point = coalesce(flows.observation_point, whole.observation_point),
    trace_reason = coalesce(flows.trace_reason, whole.trace_reason), is_reply = coalesce(flows.is_reply, whole.is_reply),
    traffic_direction = coalesce(flows.traffic_direction, whole.traffic_direction),
    protocol = coalesce(flows.protocol, whole.protocol), source = coalesce(flows.source, whole.source),
    source_port = coalesce(flows.source_port, whole.source_port),
    source_xlated = coalesce(flows.source_xlated, whole.source_xlated),
    destination = coalesce(flows.destination, whole.destination),
    destination_port = coalesce(flows.destination_port, whole.destination_port),
    icmp_type = coalesce(flows.icmp_type, whole.icmp_type), source_id = coalesce(flows.source_id, whole.source_id),
    source_identity = coalesce(flows.source_identity, whole.source_identity),
    source_cluster = coalesce(flows.source_cluster, whole.source_cluster),
    source_namespace = coalesce(flows.source_namespace, whole.source_namespace),
    source_pod = coalesce(flows.source_pod, whole.source_pod),
    destination_id = coalesce(flows.destination_id, whole.destination_id),
    destination_identity = coalesce(flows.destination_identity, whole.destination_identity),
    destination_cluster = coalesce(flows.destination_cluster, whole.destination_cluster),
    destination_namespace = coalesce(flows.destination_namespace, whole.destination_namespace),
    destination_pod = coalesce(flows.destination_pod, whole.destination_pod),
    source_service = coalesce(flows.source_service, whole.source_service),
    destination_service = coalesce(flows.destination_service, whole.destination_service),
    l7_type = coalesce(flows.l7_type, whole.l7_type), l7_summary = coalesce(flows.l7_summary, whole.l7_summary),
    latency_ns = coalesce(flows.latency_ns, whole.latency_ns),
    socket_cookie = coalesce(flows.socket_cookie, whole.socket_cookie), interface = coalesce(flows.interface, whole.interface),
    proxy_port = coalesce(flows.proxy_port, whole.proxy_port)
from (from staged where problem is null and copy = 1) as whole
where flows.time between make_timestamp_ns($first) and make_timestamp_ns($last) and flows.uuid = whole.uuid
    and same_moment(flows.time, whole.time)
    and (
        coarseness(whole.time) < coarseness(flows.time)
        or lacks_fields(flows.event_type, flows.observation_point, flows.trace_reason, flows.protocol, flows.tcp_flags, flows.source_port, flows.destination_port, flows.source, flows.destination, flows.destination_id, flows.source_identity, flows.destination_identity, flows.socket_cookie)
    );
