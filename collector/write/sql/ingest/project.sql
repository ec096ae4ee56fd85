-- Messages -> the columns of flows, as the view {projected} over {messages} (position, flow, node_name, time).
-- Macros like verdict_name are made by collector/decode/enums.py. `problem` says why a flow cannot be stored. Nothing here may
-- depend on the session: the writer prepares its insert once.
create or replace temp view {projected} as
select
    position,
{seen},
    coalesce(drop_reason_name(flow.drop_reason_desc), nullif(flow.drop_reason, 0)::varchar) as drop_reason,
    traffic_direction_name(flow.traffic_direction) as traffic_direction,
    coalesce(nullif(flow.source.cluster_name, ''), cluster_label(flow.source.labels), if(source_id is not null, nullif(cluster, ''), null)) as source_cluster,
    nullif(flow.source.namespace, '') as source_namespace,
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
    nullif(flow.interface.name, '') as interface,
    nullif(flow.proxy_port, 0) as proxy_port,
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
