"""The collector's only door to grpc: what a Relay (or an agent) answers to short calls, and its flows as raw bytes."""

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from time import monotonic, time_ns
from typing import Any, Protocol, Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc.experimental import ChannelOptions

from meshobs.collector.hubble import dial, stream
from meshobs.collector.hubble.answers import RelayNode, RelayStatus
from meshobs.collector.hubble.stream import StreamStatus
from meshobs.collector.hubble.target import Target
from meshobs.pb.observer.observer_pb2 import (
    GetFlowsRequest,
    GetNodesRequest,
    GetNodesResponse,
    ServerStatusRequest,
    ServerStatusResponse,
)
from meshobs.pb.relay.relay_pb2 import NodeState

Answer = TypeVar("Answer", bound=Message)

_SERVICE = "/observer.Observer/"
# As the hubble CLI.
_CALL_SECONDS = 12.0
# grpc-go closes a connection that is pinged more often than every five minutes.
_KEEPALIVE_MS = 300_000


class Stream(Protocol):
    """Flows under way. `status` is None until the end."""

    status: StreamStatus | None

    def messages(self) -> Iterator[list[bytes]]:
        """Yield GetFlowsResponse messages as they come, an empty list now and then while none does."""
        ...

    def close(self) -> None:
        """Break off; another thread may do it."""
        ...


class RelayError(dial.DialError):
    """A Relay answered, but not with what was asked."""


class Relay:
    """A Relay; `dial` before anything else.

    Attributes:
        expires: end of its certificate; None without TLS.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.expires: datetime | None = None
        self._channel: grpc.Channel | None = None

    def dial(self) -> Self:
        """Connect once, so that its address and TLS settings are known to be right.

        Raises:
            DialError: it cannot be reached as it was told.
        """
        target = self.target
        self.expires = dial.probe(target)
        # grpcio can neither be told to believe any certificate nor those that this machine trusts.
        bare = target.tls and (target.tls.allow_insecure or not target.tls.ca_files)
        self._channel = None if bare else _channel(target)
        return self

    def close(self) -> None:
        """End the connection."""
        if self._channel:
            self._channel.close()

    def status(self) -> RelayStatus:
        """Ask for the Relay's own status.

        Raises:
            RelayError: it does not answer.
        """
        answer = self._ask("ServerStatus", ServerStatusRequest(), ServerStatusResponse)
        if answer is None:
            raise RelayError(f"{self.target.address} is no Hubble Relay: it does not know ServerStatus")
        return RelayStatus(
            version=answer.version,
            num_flows=answer.num_flows,
            max_flows=answer.max_flows,
            seen_flows=answer.seen_flows,
            uptime_ns=answer.uptime_ns,
            connected=answer.num_connected_nodes.value,
            unavailable=answer.num_unavailable_nodes.value,
            flows_rate=answer.flows_rate,
            expires=self.expires,
        )

    def nodes(self) -> list[RelayNode] | None:
        """Ask for the nodes, as of now; None where the method is not there, as on an agent.

        Raises:
            RelayError: it does not answer.
        """
        answer = self._ask("GetNodes", GetNodesRequest(), GetNodesResponse)
        if answer is None:
            return None
        return [
            RelayNode(
                time=time_ns(),
                node_name=node.name,
                state=NodeState.Name(node.state) if node.state in NodeState.values() else str(node.state),
                version=node.version,
                address=node.address,
                uptime_ns=node.uptime_ns,
                num_flows=node.num_flows,
                max_flows=node.max_flows,
                seen_flows=node.seen_flows,
            )
            for node in answer.nodes
        ]

    def flows(self, request: GetFlowsRequest, *, stock: bool = False) -> Stream:
        """Ask for flows.

        Args:
            request: what for.
            stock: read by grpcio, which costs four times as much; the reference.

        Raises:
            DialError: the Relay cannot be reached any more.
        """
        if stock and self._channel:
            return _StockStream(self.target, self._channel, request)
        return self._call("GetFlows", request)

    def _call(self, method: str, request: Message) -> stream.FlowStream:
        connection = dial.connect(self.target)
        return stream.FlowStream(
            connection.socket, self.target, f"{_SERVICE}{method}", request.SerializeToString()
        ).send()

    def _ask(self, method: str, request: Message, answer: type[Answer]) -> Answer | None:
        """Make a short call; None where the method is not there."""
        ask = partial(_channel_ask, self._channel) if self._channel else self._bare_ask
        raw, status = ask(method, request)
        if status.code == stream.UNIMPLEMENTED:
            return None
        if status.code == stream.UNAVAILABLE:
            self.expires = dial.probe(self.target)  # grpc calls all causes the same: let the dialler find this one
        if status.code != stream.OK or raw is None:
            called = f"Relay {self.target.name} at {self.target.address}"
            raise RelayError(f"{called} does not answer {method}: {status.message or status.code}")
        made: Answer = answer.FromString(raw)
        return made

    def _bare_ask(self, method: str, request: Message) -> tuple[bytes | None, StreamStatus]:
        call = self._call(method, request)
        end = monotonic() + _CALL_SECONDS
        raw: bytes | None = None
        for messages in call.messages():
            raw = messages[0] if messages else raw
            if monotonic() > end:
                return None, StreamStatus(stream.UNAVAILABLE, "no answer in time")
        return raw, call.status or StreamStatus(stream.UNKNOWN, "no status")


class _StockStream:
    """The same as `stream.Call`, by grpcio."""

    def __init__(self, target: Target, channel: grpc.Channel, request: GetFlowsRequest) -> None:
        self.status: StreamStatus | None = None
        self._target = target
        call = channel.unary_stream(f"{_SERVICE}GetFlows", request_serializer=None, response_deserializer=None)
        self._call = call(request.SerializeToString())

    def messages(self) -> Iterator[list[bytes]]:
        """Yield each message as a list of its own; an idle stream yields nothing.

        Raises:
            DialError: the Relay cannot be reached any more.
        """
        try:
            for message in self._call:
                yield [message]
            self.status = StreamStatus(stream.OK, "")
        except grpc.RpcError as error:
            self.status = _status(error)
            if self.status.code == stream.UNAVAILABLE:
                dial.probe(self._target)

    def close(self) -> None:
        """Break off."""
        self._call.cancel()


def _channel_ask(channel: grpc.Channel, method: str, request: Message) -> tuple[bytes | None, StreamStatus]:
    call = channel.unary_unary(f"{_SERVICE}{method}", request_serializer=None, response_deserializer=None)
    try:
        return call(request.SerializeToString(), timeout=_CALL_SECONDS), StreamStatus(stream.OK, "")
    except grpc.RpcError as error:
        return None, _status(error)


def _status(error: grpc.RpcError) -> StreamStatus:
    return StreamStatus(error.code().value[0], error.details() or error.code().name)


def _channel(target: Target) -> grpc.Channel:
    options: list[tuple[str, Any]] = [
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.max_receive_message_length", -1),
        (ChannelOptions.SingleThreadedUnaryStream, 1),
        ("grpc.enable_http_proxy", 0),  # as flows: they are read without one
    ]
    tls = target.tls
    if tls is None:
        return grpc.insecure_channel(target.address, options)
    if tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    roots = b"\n".join(path.read_bytes() for path in tls.ca_files) or None
    key, cert = (path.read_bytes() if path else None for path in (tls.client_key, tls.client_cert))
    return grpc.secure_channel(target.address, grpc.ssl_channel_credentials(roots, key, cert), options)
