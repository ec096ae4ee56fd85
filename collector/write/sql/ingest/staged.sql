-- The span of the staged batch and what it holds.
select
    coalesce(epoch_ns(min(time)), 0) as first,
    coalesce(epoch_ns(max(time)), 0) as last,
    count(*) filter (problem is null) as good,
    count(*) filter (problem is null and uuid is null) as unnamed,
    count(problem) as broken,
    coalesce(count(*) filter (problem is null and coarseness(time) > 0) > 0.1 * count(*) or bool_or(
        lacks_fields(event_type, observation_point, trace_reason, protocol, tcp_flags, source_port, destination_port, source, destination, destination_id, source_identity, destination_identity, socket_cookie)
    ), false) as imperfect
from staged;
