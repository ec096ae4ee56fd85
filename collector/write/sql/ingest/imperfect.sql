-- Whether the store has rounded times (of a hundred exact ones about one ends with two zeros), or flows that lack fields.
select coalesce(count(*) filter (epoch_ns(time) % 100 = 0) > 0.1 * count(*) or bool_or(
    lacks_fields(event_type, observation_point, trace_reason, protocol, tcp_flags, source_port, destination_port, source, destination, destination_id, source_identity, destination_identity, socket_cookie)
), false)
from flows;
