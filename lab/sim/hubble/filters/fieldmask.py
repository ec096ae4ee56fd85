"""Field masks of GetFlows: which fields of a flow are sent."""

from collections.abc import Callable, Sequence
from typing import Any

from meshobs.pb.flow.flow_pb2 import Flow

Tree = dict[str, "Tree"]

# Agents before 1.19 do not know them.
_MODERN = {"aggregate", "emitter", "ip_trace_id"}


def compile_mask(paths: Sequence[str], *, modern: bool) -> Callable[[Flow], Flow] | None:
    """Return what a mask makes of a flow, None for an empty one.

    Args:
        paths: of fields, as `source.pod_name`.
        modern: the agent is of 1.19 or later.

    Raises:
        ValueError: a path leads nowhere.
    """
    if not paths:
        return None
    tree: Tree = {}
    for path in sorted(paths):  # a field comes before what lies in it, and covers it
        parts = path.split(".")
        if not _leads(parts, Flow.DESCRIPTOR) or (parts[0] in _MODERN and not modern):
            raise ValueError("invalid fieldmask")
        _add(tree, parts)

    def mask(flow: Flow) -> Flow:
        made = Flow()
        _copy(tree, flow, made)
        return made

    return mask


def _leads(parts: Sequence[str], message: Any) -> bool:  # noqa: ANN401 - the type depends on protobuf's implementation
    field = message.fields_by_name.get(parts[0])
    if field is None:
        return False
    return len(parts) == 1 or (
        field.message_type is not None and not field.is_repeated and _leads(parts[1:], field.message_type)
    )


def _add(tree: Tree, parts: Sequence[str]) -> None:
    for part in parts:
        if part in tree and not tree[part]:
            return
        tree = tree.setdefault(part, {})


def _copy(tree: Tree, source: Any, target: Any) -> None:  # noqa: ANN401 - any message
    for name, below in tree.items():
        field = source.DESCRIPTOR.fields_by_name[name]
        value = getattr(source, name)
        if below:
            # An agent makes the message even where the flow has none.
            getattr(target, name).SetInParent()
            _copy(below, value, getattr(target, name))
        elif field.is_repeated:
            getattr(target, name).extend(value)
        elif field.message_type is not None:
            if source.HasField(name):
                getattr(target, name).CopyFrom(value)
        elif not field.has_presence or source.HasField(name):
            setattr(target, name, value)
