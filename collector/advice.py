"""What makes verdicts weak before a single flow has come, and the setting to change. Pure."""

from collections.abc import Iterable, Iterator, Mapping

from meshobs.collector.hubble.answers import RelayNode
from meshobs.times import SECOND

# A ring should outlive a Relay that starts anew.
_RING_SECONDS = 30


def of_nodes(nodes: Iterable[RelayNode]) -> Iterator[str]:
    """Say which rings turn over so fast that what is missed for a moment is lost.

    Args:
        nodes: as GetNodes tells of them.
    """
    worst: tuple[float, RelayNode] | None = None
    short = 0
    for node in nodes:
        if not (node.seen_flows and node.max_flows and node.uptime_ns):
            continue
        seconds = node.max_flows / (node.seen_flows * SECOND / node.uptime_ns)
        if seconds < _RING_SECONDS:
            short += 1
            worst = min(worst or (seconds, node), (seconds, node), key=lambda one: one[0])
    if worst:
        seconds, node = worst
        others = f" (and {short - 1} more nodes)" if short > 1 else ""
        yield (
            f"{node.node_name}{others}: its ring of {node.max_flows:,} flows holds {seconds:.0f} s of traffic, what is"
            " not read by then is lost: raise hubble.eventBufferCapacity (65535 is the most)"
        )


def of_settings(cluster: str, settings: Mapping[str, str]) -> Iterator[str]:
    """Say which settings of cilium-config hide flows.

    Args:
        cluster: its name.
        settings: all of the ConfigMap; empty where it cannot be read.
    """
    if settings.get("enable-hubble", "true").lower() == "false":
        yield f"{cluster}: Hubble is off: set hubble.enabled=true"
    level = settings.get("monitor-aggregation", "").lower()
    if level not in ("", "none", "disabled", "0"):
        yield (
            f"{cluster}: monitor-aggregation is {level}: packets in mid-connection are not reported, so that fewer"
            " calls can be told from direct ones: set bpf.monitorAggregation=none while you measure"
        )
