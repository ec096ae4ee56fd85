"""Kinds of Cilium that a cluster can be: how it routes, masquerades and balances. A name, or a table of a user's. Pure.

A variant says what differs from the walkthrough's settings (S3), in the words of ConfigMap cilium-config. Only a driver
that starts real agents can do more than `native`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from meshobs.errors import InputError

_KEYS = ("name", "base", "dual_stack", "kvstoremesh", "settings", "without", "clustermesh_apiserver")
_FLAG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
# Settings that a variant may not touch -> what says them instead; empty where the lab would break.
_ELSEWHERE = {
    "bpf-lb-sock-hostns-only": "socket_lb", "enable-ipv6": "dual_stack", "hubble-event-buffer-capacity": "ring",
    "ipv4-native-routing-cidr": "native_routing_cidr", "monitor-aggregation": "aggregation",
    **dict.fromkeys(
        (
            "bpf-root", "cgroup-root", "cluster-id", "cluster-name", "clustermesh-config", "cni-exclusive", "devices",
            "enable-hubble", "enable-ipv4", "enable-l7-proxy", "hubble-disable-tls", "hubble-listen-address",
            "hubble-socket-path", "hubble-tls-cert-file", "hubble-tls-client-ca-files", "hubble-tls-key-file",
            "identity-allocation-mode", "ip-masq-agent-config-path", "ipam", "k8s-kubeconfig-path", "lib-dir",
            "state-dir",
        ),
        "",
    ),
}  # fmt: skip
_OWN_FLAGS = frozenset(("cluster-id", "cluster-name", "health-port", "k8s-kubeconfig-path", "kvstore-opt"))


@dataclass(frozen=True)
class Variant:
    """What a cluster's Cilium does otherwise than in the walkthrough.

    Attributes:
        settings: of agents, as cilium-config says them.
        without: settings that are left to Cilium's own defaults.
        dual_stack: IPv6 beside IPv4, for nodes, pods and Services.
        kvstoremesh: agents read a copy of the other clusters' stores in their own cluster's.
        clustermesh_apiserver: flags of it -> values.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    without: tuple[str, ...] = ()
    dual_stack: bool = False
    kvstoremesh: bool = False
    clustermesh_apiserver: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the name, by which experiments ask for it."""
        return self.name

    def says(self, key: str, usual: str = "true") -> str:
        """Return an agent's setting, `usual` where the variant does not touch it."""
        return self.settings.get(key, usual)

    @property
    def tunnels(self) -> bool:
        """Tell whether what pods send crosses to other nodes in a tunnel."""
        return self.says("routing-mode", "native") == "tunnel"

    @property
    def has_masquerade_agent(self) -> bool:
        """Tell whether ip-masq-agent decides what keeps its address."""
        return self.says("enable-ip-masq-agent") == "true"

    @property
    def replaces_kube_proxy(self) -> bool:
        """Tell whether agents serve NodePorts, and ClusterIPs of hosts."""
        return self.says("kube-proxy-replacement") == "true"

    def apply(self, settings: Mapping[str, str]) -> dict[str, str]:
        """Return an agent's settings as this variant has them."""
        return {key: value for key, value in {**settings, **self.settings}.items() if key not in self.without}


NATIVE = Variant("native")
_VXLAN = Variant(
    "vxlan",
    {"routing-mode": "tunnel", "tunnel-protocol": "vxlan", "enable-ip-masq-agent": "false"},
    ("auto-direct-node-routes", "ipv4-native-routing-cidr", "ipv6-native-routing-cidr", "ip-masq-agent-config-path"),
)
NAMED: Mapping[str, Variant] = {
    one.name: one
    for one in (
        NATIVE,
        _VXLAN,
        # What `cilium install` gives to whoever sets nothing: kube-proxy keeps the Services of hosts and NodePorts.
        Variant(
            "chart-defaults",
            {
                **_VXLAN.settings,
                "enable-bpf-masquerade": "false",
                "kube-proxy-replacement": "false",
                "bpf-lb-sock": "false",
            },
            (*_VXLAN.without, "direct-routing-device"),
        ),
        Variant(
            "iptables",
            {"enable-bpf-masquerade": "false", "enable-ip-masq-agent": "false", "enable-endpoint-routes": "true"},
            ("ip-masq-agent-config-path",),
        ),
        Variant("dsr", {"bpf-lb-mode": "dsr", "bpf-lb-algorithm": "maglev"}),
        Variant("dual-stack", dual_stack=True),
        # Agents read what trafficDistribution makes of EndpointSlices: off unless it is asked for.
        Variant("topology", {"enable-service-topology": "true"}),
        Variant("kvstoremesh", kvstoremesh=True),
    )
}
# Which the twin imitates, too.
IMITATED = (NATIVE, _VXLAN, NAMED["dual-stack"])


def load(text: str) -> str | Mapping[str, object]:
    """Return what a mesh description says of a variant that is named on a command line.

    Args:
        text: its name, or the path of a file that describes one.

    Raises:
        InputError: there is none of that name, or the file has mistakes; all of them are named.
    """
    import tomllib  # noqa: PLC0415 - only for a file; every command loads this module

    if text in NAMED:
        return text
    path = Path(text)
    if path.suffix != ".toml" and path.name == text:
        raise InputError(f"there is no variant {text!r}: one of {', '.join(NAMED)}, or a file *.toml")
    try:
        table: Mapping[str, object] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"cannot read the variant {path}: {error}") from error
    table = {"name": path.stem, **table}
    mistakes: list[str] = []
    variant_of(table, mistakes)
    if mistakes:
        raise InputError(f"{path}: {'; '.join(mistakes)}")
    return table


def variant_of(given: object, mistakes: list[str]) -> Variant:
    """Return the variant that a mesh description means.

    Args:
        given: a name, or a table: name, base, dual_stack, settings, without, clustermesh_apiserver.
        mistakes: what is wrong with it is added.
    """
    if isinstance(given, str):
        if given not in NAMED:
            mistakes.append(f"there is no variant {given!r}: one of {', '.join(NAMED)}")
        return NAMED.get(given, NATIVE)
    if not isinstance(given, Mapping):
        mistakes.append(f"a variant is a name or a table, not {given!r}")
        return NATIVE
    mistakes += [f"unknown key {key} (known: {', '.join(_KEYS)})" for key in given if key not in _KEYS]
    named = given.get("base", NATIVE.name)
    if not isinstance(named, str):
        mistakes.append(f"base must be the name of a variant, not {named!r}")
        named = NATIVE.name
    base = variant_of(named, mistakes)
    settings = _flags(given.get("settings", {}), "settings", mistakes)
    without = given.get("without", [])
    if not isinstance(without, list) or not all(isinstance(one, str) for one in without):
        mistakes.append(f"without must be a list of settings, not {without!r}")
        without = []
    mistakes += [f"without: {one!r} is no setting" for one in without if not _FLAG.fullmatch(one)]
    mistakes += [f"{one} is in settings and in without" for one in without if one in settings]
    mistakes += _find_foreign((*settings, *without))
    flags = _flags(given.get("clustermesh_apiserver", {}), "clustermesh_apiserver", mistakes)
    mistakes += [f"clustermesh_apiserver: {one} is the lab's own" for one in flags if one in _OWN_FLAGS]
    switches = {key: given.get(key, getattr(base, key)) for key in ("dual_stack", "kvstoremesh")}
    mistakes += [
        f"{key} must be true or false, not {value!r}" for key, value in switches.items() if not isinstance(value, bool)
    ]
    name = given.get("name", "own")
    if not isinstance(name, str) or not name.isprintable() or not name:
        mistakes.append(f"name must be a text, not {name!r}")
    left = tuple(one for one in base.without if one not in settings)
    return replace(
        base,
        name=str(name),
        settings={key: value for key, value in {**base.settings, **settings}.items() if key not in without},
        without=(*left, *without),
        clustermesh_apiserver=flags,
        **{key: bool(value) for key, value in switches.items()},
    )


def _flags(given: object, where: str, mistakes: list[str]) -> Mapping[str, str]:
    """Return flags as ConfigMaps and command lines write their values."""
    if not isinstance(given, Mapping):
        mistakes.append(f"{where} must be a table, not {given!r}")
        return {}
    found = {}
    for key, value in given.items():
        if not _FLAG.fullmatch(str(key)):
            mistakes.append(f"{where}: {key!r} is no flag: write it as Cilium does, such as routing-mode")
        elif not isinstance(value, str | bool | int | float):
            mistakes.append(f"{where}: {key} must be a text, a number, true or false, not {value!r}")
        elif isinstance(value, str) and not value.isprintable():
            mistakes.append(f"{where}: {key} must be one line")
        else:
            found[str(key)] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


def _find_foreign(names: Iterable[str]) -> Iterable[str]:
    for name in names:
        if name in _ELSEWHERE:
            key = _ELSEWHERE[name]
            yield f"settings: {name} is the lab's own" + (f": the key {key} says it" if key else "")
