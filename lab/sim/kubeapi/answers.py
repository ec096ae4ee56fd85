"""What an API server answers to a request for objects."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from meshobs.errors import MeshobsError
from meshobs.lab.sim.kubeapi import kinds, printing, request
from meshobs.lab.sim.kubeapi.objects.maker import Json
from meshobs.lab.sim.kubeapi.portforward import ForwardRequest
from meshobs.lab.sim.kubeapi.request import ApiPath, ApiRefusedError, bad
from meshobs.lab.sim.kubeapi.store import GoneError, KubeStore
from meshobs.lab.sim.kubeapi.watch import ServedWatch, expired_status

_PATCHES = ("application/merge-patch+json", "application/strategic-merge-patch+json")
# A real server ends a watch that names no limit after half an hour to an hour.
_WATCH_SECONDS = 1800
_USER = "lab"
# What a patch of annotations may hold beside them.
_ABOVE = {"kind", "apiVersion", "metadata"}
_IN_METADATA = {"annotations", "name", "namespace", "resourceVersion", "uid"}


@dataclass(frozen=True)
class Hooks:
    """What knows and changes the world when a client asks for it."""

    annotate: Callable[[str, str, dict[str, str | None]], None]
    scale: Callable[[str, str, int], None]
    forward: Callable[[str, str, int], str]
    carried: Callable[[int], None]


@dataclass(frozen=True)
class ApiFaults:
    """What the server refuses on purpose."""

    forbidden: set[str] = field(default_factory=set)


class Answers:
    """Answers of one server. Safe from any thread."""

    def __init__(self, store: KubeStore, hooks: Hooks, faults: ApiFaults) -> None:
        self._store = store
        self._hooks = hooks
        self._faults = faults

    def to(
        self, method: str, path: str, query: Mapping[str, str], body: bytes, content: str, accept: str
    ) -> Json | ServedWatch | ForwardRequest:
        """Return the answer to a request.

        Args:
            method: GET or PATCH; all else is refused.
            path: without the token.
            query: the URL's parameters.
            body: what to change.
            content: what the body is.
            accept: what the client prefers.

        Raises:
            RefusedError: it is refused.
        """
        asked = request.parse_path(path)
        one, watched = bool(asked.name), query.get("watch", "") in ("1", "true")
        verb = method.lower() if method != "GET" else "get" if one else "watch" if watched else "list"
        if asked.resource in self._faults.forbidden:
            raise asked.refuse_access(verb, _USER)
        if method == "GET" and not one:
            tables = printing.is_asked(accept)
            return self._watch(asked, query, tables=tables) if watched else self._list(asked, query, tables=tables)
        if method == "GET" and asked.below == "portforward" and asked.api.plural == "pods":
            return self._forward(asked, query)
        if method == "GET":
            item = self._one(asked)
            tables = printing.is_asked(accept) and not asked.below
            return printing.table(asked.api, [item], {}, self._store.clock()) if tables else item
        if method == "PATCH" and one:
            return self._patch(asked, query, body, content)
        raise ApiRefusedError(
            kinds.status(
                HTTPStatus.METHOD_NOT_ALLOWED,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            )
        )

    def _forward(self, asked: ApiPath, query: Mapping[str, str]) -> ForwardRequest:
        self._one(replace(asked, below=""))
        port = request.number(query, "ports")
        target = self._hooks.forward(asked.namespace, asked.name, port)
        return ForwardRequest(asked.name, port, target, self._hooks.carried)

    def _one(self, asked: ApiPath) -> Json:
        item = self._store.get(asked.key)
        if item is None or asked.below not in ("", "scale") or (asked.below and asked.api.plural != "deployments"):
            raise asked.refuse_absent()
        return kinds.scale_of(item) if asked.below else item

    def _list(self, asked: ApiPath, query: Mapping[str, str], *, tables: bool) -> Json:
        chosen, limit = request.selection(asked.namespace, query), request.number(query, "limit")
        wanted, start = request.after(query["continue"]) if query.get("continue") else (None, None)
        if wanted is None and query.get("resourceVersionMatch") == "Exact":
            wanted = request.number(query, "resourceVersion")
        try:
            version, held = self._store.list_objects(asked.api.plural, wanted)
        except GoneError as error:
            message = (
                "The provided continue parameter is too old to display a consistent list result."
                if start
                else f"The resourceVersion for the provided list is too old: {wanted} ({error.version})"
            )
            raise ApiRefusedError(expired_status(message)) from error
        found = [(key, item) for key, item in held if chosen(item) and (start is None or key > start)]
        page = found[:limit] if limit else found
        metadata: Json = {"resourceVersion": str(version)}
        if len(page) < len(found):
            metadata |= {"continue": request.token(version, page[-1][0])}
            if not (query.get("labelSelector") or query.get("fieldSelector")):
                metadata |= {"remainingItemCount": len(found) - len(page)}
        if tables:
            return printing.table(asked.api, [item for _, item in page], metadata, self._store.clock())
        return {
            "kind": f"{asked.api.kind}List",
            "apiVersion": asked.api.group_version,
            "metadata": metadata,
            # Only lists of a CustomResourceDefinition's objects repeat their kind in each.
            "items": [item if asked.api.own else _bare(item) for _, item in page],
        }

    def _watch(self, asked: ApiPath, query: Mapping[str, str], *, tables: bool) -> ServedWatch:
        version = request.number(query, "resourceVersion")
        return ServedWatch(
            self._store,
            asked.api,
            request.selection(asked.namespace, query),
            version or None,
            request.number(query, "timeoutSeconds") or _WATCH_SECONDS,
            query.get("allowWatchBookmarks", "") in ("1", "true"),
            tables,
        )

    def _patch(self, asked: ApiPath, query: Mapping[str, str], body: bytes, content: str) -> Json:
        item = self._one(asked)
        if content not in _PATCHES:
            message = f"the body of the request was in an unknown format - accepted media types: {', '.join(_PATCHES)}"
            raise ApiRefusedError(kinds.status(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", message))
        try:
            change = json.loads(body)
        except ValueError as error:
            raise bad("the body of the request is no JSON") from error
        dry = query.get("dryRun", "") == "All"
        if asked.below:
            return self._scale(asked, change, dry=dry)
        if asked.api.plural != "services":
            raise bad(
                "a simulated cluster lets nothing be changed but annotations of Services and scales of Deployments"
            )
        changes = _annotations(item, change)
        merged = {**item["metadata"].get("annotations", {}), **changes}
        annotations = {name: value for name, value in merged.items() if value is not None}
        if dry:
            return {**item, "metadata": {**item["metadata"], "annotations": annotations}}
        with _translate_errors():
            self._hooks.annotate(asked.namespace, asked.name, changes)
        self._store.annotate(asked.key, annotations)
        return self._one(asked)

    def _scale(self, asked: ApiPath, change: object, *, dry: bool) -> Json:
        spec = change.get("spec") if isinstance(change, dict) else None
        replicas = spec.get("replicas") if isinstance(spec, dict) else None
        if not isinstance(replicas, int) or isinstance(replicas, bool) or replicas < 0:
            raise bad("spec.replicas must be a number that is not negative")
        if not dry:
            with _translate_errors():
                self._hooks.scale(asked.namespace, asked.name, replicas)
        # The pods follow later; what is wanted holds at once.
        return {**self._one(asked), "spec": {"replicas": replicas}}


@contextmanager
def _translate_errors() -> Iterator[None]:
    """Refuse what the world refuses."""
    try:
        yield
    except MeshobsError as error:
        raise bad(str(error)) from error


def _annotations(item: Json, change: object) -> dict[str, str | None]:
    """Return which annotations a patch of an object changes.

    Raises:
        RefusedError: it patches something else.
    """
    metadata = change.get("metadata") if isinstance(change, dict) else None
    if not isinstance(change, dict) or not isinstance(metadata, dict):
        raise bad("the patch must be an object with metadata.annotations")
    if not (change.keys() <= _ABOVE and metadata.keys() <= _IN_METADATA):
        raise bad("a simulated cluster lets nothing be changed of a Service but annotations")
    wanted = metadata.get("resourceVersion")
    if wanted and wanted != item["metadata"]["resourceVersion"]:
        message = (
            f'Operation cannot be fulfilled on services "{item["metadata"]["name"]}": the object has been modified;'
            " please apply your changes to the latest version and try again"
        )
        raise ApiRefusedError(kinds.status(HTTPStatus.CONFLICT, "Conflict", message))
    changes = metadata.get("annotations") or {}
    if not isinstance(changes, dict) or not all(value is None or isinstance(value, str) for value in changes.values()):
        raise bad("metadata.annotations must be texts")
    return {str(name): value for name, value in changes.items()}


def _bare(item: Json) -> Json:
    return {name: value for name, value in item.items() if name not in ("kind", "apiVersion")}
