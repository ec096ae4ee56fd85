"""What a FlowFilter's fields ask of a flow's two ends: the values of one field -> a test of a flow. Pure.

Each function is a compiler, or makes one for a side; what is no value of its field raises ValueError with an agent's
text.
"""

from collections.abc import Callable, Sequence
from typing import Any

from meshobs.lab.sim.hubble.filters import patterns, selectors
from meshobs.pb.flow.flow_pb2 import Flow

Test = Callable[[Flow], bool]
# Compiles the values of one field. Raises ValueError.
Compiler = Callable[[Any], Test]


def with_context(context: str, compiler: Compiler) -> Compiler:
    """Return a compiler whose errors say which field they are of, as an agent's do for some."""

    def compile_values(values: Any) -> Test:  # noqa: ANN401 - a repeated field of any type
        try:
            return compiler(values)
        except ValueError as error:
            raise ValueError(f"invalid {context} filter: {error}") from error

    return compile_values


def pods(side: str) -> Compiler:
    """Compile names of one side's pods."""
    return _names(lambda flow: (getattr(flow, side).namespace, getattr(flow, side).pod_name))


def services(side: str) -> Compiler:
    """Compile names of one side's services."""
    field = f"{side}_service"
    names = _names(lambda flow: (getattr(flow, field).namespace, getattr(flow, field).name))
    return with_context(f"{side} service", names)


def _names(read: Callable[[Flow], tuple[str, str]]) -> Compiler:
    def compile_values(values: Sequence[str]) -> Test:
        wanted = [_split_name(value) for value in values]

        def test(flow: Flow) -> bool:
            namespace, name = read(flow)
            return bool(namespace or name) and any(
                name.startswith(prefix) and space in {"", namespace} for space, prefix in wanted
            )

        return test

    return compile_values


def _split_name(value: str) -> tuple[str, str]:
    """Return namespace and prefix of a pod's or service's name: `x` means default/x, `/x` any namespace."""
    if not value:
        raise ValueError("invalid filter, name must not be empty")
    namespace, slash, prefix = value.partition("/")
    return (namespace, prefix) if slash else ("default", value)


def clusters(side: str) -> Compiler:
    """Compile names of one side's clusters; no wildcards."""

    def compile_values(values: Sequence[str]) -> Test:
        if "" in values:
            raise ValueError("invalid filter, name must not be empty")
        wanted = set(values)
        return lambda flow: getattr(flow, side).cluster_name in wanted

    return compile_values


def identities(side: str) -> Compiler:
    """Compile one side's security identities."""

    def compile_values(values: Sequence[int]) -> Test:
        wanted = set(values)
        return lambda flow: flow.HasField(side) and getattr(flow, side).identity in wanted

    return compile_values


def workloads(side: str) -> Compiler:
    """Compile one side's workloads; what a filter leaves empty fits any."""

    def compile_values(values: Sequence[Any]) -> Test:
        wanted = [(one.name, one.kind) for one in values]
        return lambda flow: any(
            name in {"", one.name} and kind in {"", one.kind}
            for one in getattr(flow, side).workloads
            for name, kind in wanted
        )

    return compile_values


def plain(read: Callable[[Flow], Any]) -> Compiler:
    """Return a compiler for a field whose values are compared as they are."""

    def compile_values(values: Sequence[Any]) -> Test:
        wanted = set(values)
        return lambda flow: read(flow) in wanted

    return compile_values


def labels(context: str, read: Callable[[Flow], Sequence[str]]) -> Compiler:
    """Compile label selectors; the context stands in their errors."""

    def compile_values(values: Sequence[str]) -> Test:
        wanted = [selectors.compile_selector(value) for value in values]

        def test(flow: Flow) -> bool:
            labels = selectors.labels(read(flow))
            return any(selector(labels) for selector in wanted)

        return test

    return with_context(f"{context} label", compile_values)


def fqdns(read: Callable[[Flow], Sequence[str]]) -> Compiler:
    """Compile DNS names with wildcards."""

    def compile_values(values: Sequence[str]) -> Test:
        pattern = patterns.names(values)
        return lambda flow: any(pattern.fullmatch(name) for name in read(flow))

    return compile_values
