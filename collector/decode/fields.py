"""Which fields of a GetFlowsResponse are stored, as a message type of its own.

Decoding only these halves the cost of a message; everything else is skipped on the wire. The full API stays in
`meshobs.pb`. To store one more field: name it here, in a migration and in `sql/ingest/project.sql`.
"""

from collections.abc import Mapping
from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool

from meshobs.pb.observer import observer_pb2

_PORTS = "source_port destination_port"
_ENDPOINT = "ID identity namespace labels pod_name workloads cluster_name"

FIELDS: dict[str, str] = {
    "observer.GetFlowsResponse": "flow node_status lost_events node_name time",
    "relay.NodeStatusEvent": "state_change node_names message",
    "flow.LostEvent": "source num_events_lost cpu first last",
    "flow.Flow": "time verdict drop_reason IP l4 source destination node_name l7 event_type source_service"
    " destination_service traffic_direction trace_observation_point drop_reason_desc is_reply interface proxy_port"
    " socket_cookie uuid trace_reason emitter aggregate",
    "flow.IP": "source destination source_xlated",
    "flow.Layer4": "TCP UDP ICMPv4 ICMPv6 SCTP VRRP IGMP",
    "flow.TCP": f"{_PORTS} flags",
    "flow.TCPFlags": "FIN SYN RST PSH ACK URG ECE CWR NS",
    "flow.UDP": _PORTS,
    "flow.SCTP": _PORTS,
    "flow.ICMPv4": "type",
    "flow.ICMPv6": "type",
    "flow.VRRP": "type",
    "flow.IGMP": "type",
    "flow.Endpoint": _ENDPOINT,
    "flow.Workload": "name",
    "flow.Layer7": "type latency_ns dns http kafka",
    "flow.DNS": "query rcode",
    "flow.HTTP": "code method url",
    "flow.Kafka": "api_key topic error_code",
    "flow.CiliumEventType": "type sub_type",
    "flow.Service": "name namespace",
    "flow.NetworkInterface": "name",
    "flow.Emitter": "version",
    "flow.Aggregate": "ingress_flow_count egress_flow_count unknown_direction_flow_count",
}

ENUMS = (
    "flow.Verdict",
    "flow.DropReason",
    "flow.TraceObservationPoint",
    "flow.TraceReason",
    "flow.TrafficDirection",
    "flow.L7FlowType",
    "flow.LostEventSource",
    "relay.NodeState",
)


# What tells whether a flow decides, and what is counted of one that does not (sql/ingest/seen_columns.sql).
SEEN: dict[str, str] = FIELDS | {
    "flow.Flow": "time verdict IP l4 source destination node_name event_type trace_observation_point is_reply"
    " socket_cookie uuid trace_reason emitter aggregate",
    "flow.Endpoint": "ID identity pod_name workloads",
}


@cache
def message_type() -> Descriptor:
    """Return GetFlowsResponse with the wanted fields only, in a descriptor pool of its own."""
    return _message_type(FIELDS)


@cache
def seen_type() -> Descriptor:
    """Return the same with the fields of SEEN."""
    return _message_type(SEEN)


def _message_type(fields: Mapping[str, str]) -> Descriptor:
    pool = DescriptorPool()
    _add(pool, observer_pb2.DESCRIPTOR, fields, set())
    return pool.FindMessageTypeByName("observer.GetFlowsResponse")


def enum_names(full_name: str) -> list[str | None]:
    """Return an enum's names by number: entry n is the name of number n, None where no number n exists."""
    values = observer_pb2.DESCRIPTOR.pool.FindEnumTypeByName(full_name).values_by_number
    return [values[number].name if number in values else None for number in range(max(values) + 1)]


def is_repeated(field: FieldDescriptor) -> bool:
    """Tell whether a field holds a list."""
    return bool(field.is_repeated)


def _add(pool: DescriptorPool, file: FileDescriptor, fields: Mapping[str, str], done: set[str]) -> None:
    if file.name in done:
        return
    done.add(file.name)
    for dependency in file.dependencies:
        _add(pool, dependency, fields, done)
    proto = FileDescriptorProto()
    file.CopyToProto(proto)
    for message in proto.message_type:
        _prune(message, fields.get(f"{proto.package}.{message.name}"))
    pool.Add(proto)


def _prune(message: DescriptorProto, wanted: str | None) -> None:
    if wanted is None:
        return
    names = set(wanted.split())
    unknown = names - {field.name for field in message.field}
    if unknown:
        raise ValueError(f"{message.name} has no field {', '.join(sorted(unknown))}")
    kept = [field for field in message.field if field.name in names]
    del message.field[:]
    message.field.extend(kept)
