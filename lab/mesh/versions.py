"""Every version the lab stands up, in one place, and what a version of Cilium does differently."""

from dataclasses import dataclass

from meshobs.errors import InputError

CILIUM = "1.17.6"
# Of which the driver netns was seen to stand a mesh up, oldest first; it takes any other that Go can build, too.
BUILT = ("1.17.6", "1.18.11", "1.19.6", "1.20.2")
KIND_NODE_IMAGE = "kindest/node:v1.33.2"
KUBERNETES = "1.33.2"
CLIENT_IMAGE = "nicolaka/netshoot"
SERVER_IMAGE = "traefik/whoami"


@dataclass(frozen=True)
class Traits:
    """What differs between versions and shows in flows; each as measured on 1.17.6, 1.19.4, 1.19.6 and 1.20.2.

    Attributes:
        literal_none_is_local: `affinity: none` written out drops every remote backend (cilium#46623).
        answers_foreign_nodeports: a call to another cluster's node, on a NodePort that the own cluster has too, is
            answered by the own cluster (cilium#24692).
        names_services: socket events carry the service that an address is the frontend of.
        limits_sockets: at aggregation medium one socket event per node and 5 s, and no other than PRE_FWD.
        merges_losses: losses of a ring come as one event a second with its span, not as one per flow.
        names_emitter: every flow says which version sent it.
        refuses_unreachable: connecting to a service without backends fails with EHOSTUNREACH, else with EPERM.
        names_backend_of_nodeport: a node's answer for its own backend has the pod's identity beside the node's address.
    """

    literal_none_is_local: bool
    answers_foreign_nodeports: bool
    names_services: bool
    limits_sockets: bool
    merges_losses: bool
    names_emitter: bool
    refuses_unreachable: bool
    names_backend_of_nodeport: bool


def traits(version: str) -> Traits:
    """Return what a version of Cilium does.

    Raises:
        InputError: the text is no version.
    """
    number = parse(version)
    modern = number >= (1, 19, 0)
    return Traits(
        literal_none_is_local=(1, 18, 10) <= number <= (1, 19, 5),
        answers_foreign_nodeports=not modern,
        names_services=modern,
        limits_sockets=modern,
        merges_losses=modern,
        names_emitter=modern,
        refuses_unreachable=modern,
        names_backend_of_nodeport=number >= (1, 20, 0),
    )


def parse(version: str) -> tuple[int, int, int]:
    """Return a version's three numbers."""
    parts = version.removeprefix("v").split(".")
    if len(parts) != 3 or not all(part.isdecimal() for part in parts):  # noqa: PLR2004 - major, minor, patch
        raise InputError(f"{version!r} is no version of Cilium: write three numbers, as {CILIUM}")
    major, minor, patch = map(int, parts)
    return major, minor, patch
