-- Which flows are stored where those are that decide: also those that tell of Envoy's addresses, and of nodes whose cluster is not known yet.
decides(
    event_type, event_subtype, observation_point, trace_reason, is_reply, verdict, protocol, tcp_flags, icmp_type, source_xlated, source_id, destination_id
)
or cluster = 'default'
or coalesce(cilium_ingress(source_identity), false)
or coalesce(cilium_ingress(destination_identity), false)
