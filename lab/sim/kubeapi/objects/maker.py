"""What all Kubernetes objects of a sim have in common: keys, metadata and names that follow from the seed. Pure."""

import random
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

Json: TypeAlias = dict[str, Any]

# Kubernetes leaves out of random names what could spell a word.
_LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class Key(NamedTuple):
    """Which object of a cluster; the namespace is empty where the kind has none."""

    resource: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Maker:
    """Makes metadata of one cluster's objects.

    Attributes:
        created: when all of it was made, as Kubernetes writes it; empty where the server that holds it says.
        made: the objects so far.
    """

    seed: int
    cluster: str
    created: str = ""
    made: dict[Key, Json] = field(default_factory=dict)

    def uid(self, key: Key) -> str:
        """Return an object's uid, the same in every run."""
        return str(uuid.UUID(int=self._chance("uid", *key).getrandbits(128), version=4))

    def suffix(self, *of: str) -> str:
        """Return five letters as Kubernetes appends them to generated names."""
        return "".join(self._chance("suffix", *of).choices(_LETTERS, k=5))

    def add(
        self,
        key: Key,
        api: str,
        kind: str,
        *,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        owner: Json | None = None,
        meta: Json | None = None,
        **rest: object,
    ) -> None:
        """Make one object.

        Args:
            key: which.
            api: its apiVersion.
            kind: its kind.
            labels: left out where empty, as in JSON of Kubernetes.
            annotations: the same.
            owner: from `owner`.
            meta: more of its metadata.
            rest: what it has beside metadata.
        """
        metadata: Json = {"name": key.name, "uid": self.uid(key), **(meta or {})}
        optional: Json = {
            "namespace": key.namespace,
            "creationTimestamp": self.created,
            "labels": dict(labels or {}),
            "annotations": dict(annotations or {}),
            "ownerReferences": [owner] if owner else [],
        }
        metadata |= {name: value for name, value in optional.items() if value}
        self.made[key] = {"apiVersion": api, "kind": kind, "metadata": metadata, **rest}

    def owner(self, key: Key, api: str, kind: str, *, controller: bool = True) -> Json:
        """Return a reference to an owner, which need not be there."""
        reference: Json = {"apiVersion": api, "kind": kind, "name": key.name, "uid": self.uid(key)}
        return reference | ({"blockOwnerDeletion": True, "controller": True} if controller else {})

    def _chance(self, *of: str) -> random.Random:
        return random.Random("/".join((str(self.seed), self.cluster, *of)))  # noqa: S311 - no secret
