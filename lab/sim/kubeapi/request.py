"""What a request asks an API server for: path, selectors, pages. Pure."""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias

from meshobs.lab.sim.kubeapi import kinds
from meshobs.lab.sim.kubeapi.kinds import ApiKind
from meshobs.lab.sim.kubeapi.objects.maker import Json, Key

Selection: TypeAlias = Callable[[Json], bool]

_FIELDS = ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase")
_CORE = 2  # segments before the resource: api, v1
_NAMED = 3  # and: apis, group, version


class ApiRefusedError(Exception):
    """The request is refused.

    Attributes:
        status: the object that says why.
    """

    def __init__(self, status: Json) -> None:
        super().__init__(status["message"])
        self.status = status


@dataclass(frozen=True)
class ApiPath:
    """A path of objects: all, those of a namespace, or one; and below it `scale` or whatever else.

    Attributes:
        api: of what kind.
    """

    api: ApiKind
    namespace: str = ""
    name: str = ""
    below: str = ""

    @property
    def key(self) -> Key:
        """Return which object it is."""
        return Key(self.api.plural, self.namespace, self.name)

    @property
    def resource(self) -> str:
        """Return what access rules call it: `pods`, or `pods/portforward`."""
        return f"{self.api.plural}/{self.below}" if self.below else self.api.plural

    def refuse_access(self, verb: str, user: str) -> ApiRefusedError:
        """Return the refusal of somebody without the right."""
        where = f'in the namespace "{self.namespace}"' if self.namespace else "at the cluster scope"
        named = f'{self.api.full} "{self.name}"' if self.name else self.api.full
        message = (
            f'{named} is forbidden: User "{user}" cannot {verb} resource "{self.resource}"'
            f' in API group "{self.api.group}" {where}'
        )
        return ApiRefusedError(kinds.status(HTTPStatus.FORBIDDEN, "Forbidden", message, self._details))

    def refuse_absent(self) -> ApiRefusedError:
        """Return the refusal for an object that is not there."""
        message = f'{self.api.full} "{self.name}" not found'
        return ApiRefusedError(kinds.status(HTTPStatus.NOT_FOUND, "NotFound", message, self._details))

    @property
    def _details(self) -> Json:
        named = {"name": self.name} if self.name else {}
        return {**named, **({"group": self.api.group} if self.api.group else {}), "kind": self.api.plural}


def parse_path(path: str) -> ApiPath:
    """Return what a path leads to.

    Raises:
        RefusedError: nowhere.
    """
    parts = path.strip("/").split("/")
    if parts[0] == "api":
        group, version, rest = "", "".join(parts[1:_CORE]), parts[_CORE:]
    else:
        group, version, rest = "".join(parts[1:2]), "".join(parts[2:_NAMED]), parts[_NAMED:]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:  # noqa: PLR2004 - namespaces, its name, a resource
        namespace, rest = rest[1], rest[2:]
    plural, name, below = (*rest, "", "", "")[:3]
    api = kinds.find_kind(group, version, plural)
    if not api or parts[0] not in ("api", "apis") or (namespace and not api.namespaced):
        raise ApiRefusedError(
            kinds.status(HTTPStatus.NOT_FOUND, "NotFound", "the server could not find the requested resource")
        )
    return ApiPath(api, namespace, name, below)


def selection(namespace: str, query: Mapping[str, str]) -> Selection:
    """Return what tells whether an object is asked for.

    Args:
        namespace: only of this one; empty for all.
        query: parameters labelSelector and fieldSelector, of which equality and existence are understood.

    Raises:
        RefusedError: a selector is not understood.
    """
    tests = [_of_label(term) for term in _terms(query.get("labelSelector", ""))]
    tests += [_of_field(term) for term in _terms(query.get("fieldSelector", ""))]
    if namespace:
        tests.append(lambda item: item["metadata"].get("namespace") == namespace)
    return lambda item: all(test(item) for test in tests)


def bad(message: str) -> ApiRefusedError:
    """Return the refusal of a request that makes no sense."""
    return ApiRefusedError(kinds.status(HTTPStatus.BAD_REQUEST, "BadRequest", message))


def number(query: Mapping[str, str], name: str) -> int:
    """Return a whole number of a query, 0 if it is left out.

    Raises:
        RefusedError: it is none.
    """
    value = query.get(name, "") or "0"
    if not (value.isascii() and value.isdecimal()):
        raise bad(f"{name}: invalid value {value!r}")
    return int(value)


def token(version: int, start: Key) -> str:
    """Return what a client goes on with after a page: the version of the list, and the last object it had."""
    return base64.urlsafe_b64encode(json.dumps({"v": version, "start": start}).encode()).decode().rstrip("=")


def after(token: str) -> tuple[int, Key]:
    """Return what a token says.

    Raises:
        RefusedError: it is none of ours.
    """
    try:
        found = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(found["v"]), Key(*map(str, found["start"]))
    except (ValueError, KeyError, TypeError) as error:
        raise bad("continue key is not valid") from error


def _terms(selector: str) -> list[str]:
    if "(" in selector:
        raise bad(f"unable to parse requirement: {selector!r}: sets are not understood here")
    return [term.strip() for term in selector.split(",") if term.strip()]


def _of_label(term: str) -> Selection:
    name, operator, value = _split(term)
    if not operator:
        there, key = not term.startswith("!"), term.removeprefix("!")
        return lambda item: (key in item["metadata"].get("labels", {})) == there
    return lambda item: (item["metadata"].get("labels", {}).get(name) == value) == (operator == "=")


def _of_field(term: str) -> Selection:
    name, operator, value = _split(term)
    if name not in _FIELDS or not operator:
        raise bad(f"field label not supported: {name}")
    part, _, field = name.partition(".")
    return lambda item: (item.get(part, {}).get(field, "") == value) == (operator == "=")


def _split(term: str) -> tuple[str, str, str]:
    """Return name, operator (=, != or none) and value."""
    for written, operator in (("!=", "!="), ("==", "="), ("=", "=")):
        name, found, value = term.partition(written)
        if found:
            return name.strip(), operator, value.strip()
    return term, "", ""
