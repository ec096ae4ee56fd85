"""The wire between a command and the process of a running lab: JSON requests, JSON answers, on loopback with a key.

A request names what to do and its arguments. Answers are any number of `{"progress": ...}`, by which the lab sees that
somebody still waits, then one `{"result": ...}` or `{"error": ...}`; errors are the user's, and shown as such.
"""

import json
import secrets
import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from typing import Any

from meshobs.errors import InputError, MeshobsError

# What a command does: its arguments and where to tell progress -> the result. Progress returns False when nobody
# listens any more.
Action = Callable[[Mapping[str, Any], Callable[[Any], bool]], Any]


class ControlServer:
    """Answers commands, each connection in a thread of its own."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self.key = secrets.token_hex(16)
        self._actions = actions
        self.address = ""
        self._listener: Listener | None = None

    def start(self) -> None:
        """Answer from now on, at `address`."""
        self._listener = listener = Listener(("127.0.0.1", 0), authkey=self.key.encode())
        self.address = "{}:{}".format(*listener.address[:2])
        threading.Thread(target=self._accept, args=(listener,), name="control", daemon=True).start()

    def close(self) -> None:
        """Stop listening; before `start` there is nothing to stop."""
        if self._listener:
            self._listener.close()

    def _accept(self, listener: Listener) -> None:
        while True:
            try:
                connection = listener.accept()
            except OSError as error:
                # A caller with a wrong key, or one that went away, ends its own connection only.
                if getattr(listener, "_listener", None) is None:
                    return
                del error
                continue
            except Exception:  # noqa: BLE001, S112 - AuthenticationError and what a stranger may send
                continue
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: "Connection[Any, Any]") -> None:
        with connection, suppress(EOFError, OSError):
            while True:
                request = json.loads(connection.recv_bytes())
                connection.send_bytes(json.dumps(self._answer(request, connection)).encode())

    def _answer(self, request: Mapping[str, Any], connection: "Connection[Any, Any]") -> Mapping[str, Any]:
        def progress(value: Any) -> bool:  # noqa: ANN401 - any JSON
            try:
                connection.send_bytes(json.dumps({"progress": value}).encode())
            except OSError:
                return False
            return True

        try:
            return {"result": self._actions[request["do"]](request.get("with", {}), progress)}
        except MeshobsError as error:
            return {"error": str(error)}
        except Exception as error:  # noqa: BLE001 - a bug here must not leave the caller waiting; the log has it whole
            traceback.print_exc()
            return {"error": f"the lab's process failed: {type(error).__name__}: {error}; its log says more"}


def ask(address: str, key: str, what: str, arguments: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
    """Let a running lab do something; return its result.

    Args:
        address: HOST:PORT of its process.
        key: what it lets in.
        what: the command.
        arguments: for it.

    Raises:
        InputError: the lab refuses, and says why.
        MeshobsError: it does not answer.
    """
    host, _, port = address.rpartition(":")
    try:
        with Client((host, int(port)), authkey=key.encode()) as connection:
            connection.send_bytes(json.dumps({"do": what, "with": arguments or {}}).encode())
            while True:
                answer = json.loads(connection.recv_bytes())
                if "error" in answer:
                    raise InputError(answer["error"])
                if "result" in answer:
                    return answer["result"]
    except (OSError, EOFError) as error:
        raise MeshobsError(
            f"the lab's process does not answer at {address} ({error or 'it ended'}): meshobs lab down, then lab up"
        ) from error
