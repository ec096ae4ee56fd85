"""What an API server says beside objects: which kinds there are, and why it refuses. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from meshobs.lab.mesh import versions
from meshobs.lab.sim.kubeapi.objects.maker import Json


@dataclass(frozen=True)
class ApiKind:
    """A kind of object.

    Attributes:
        short: what kubectl takes for it.
        own: it comes from a CustomResourceDefinition.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    own: bool = False

    @property
    def group_version(self) -> str:
        """Return its apiVersion."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def full(self) -> str:
        """Return its name as messages write it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


APIS = (
    ApiKind("", "v1", "services", "Service", short=("svc",)),
    ApiKind("", "v1", "pods", "Pod", short=("po",)),
    ApiKind("", "v1", "nodes", "Node", namespaced=False, short=("no",)),
    ApiKind("", "v1", "namespaces", "Namespace", namespaced=False, short=("ns",)),
    ApiKind("", "v1", "configmaps", "ConfigMap", short=("cm",)),
    ApiKind("", "v1", "secrets", "Secret"),
    ApiKind("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice"),
    ApiKind("apps", "v1", "deployments", "Deployment", short=("deploy",)),
    ApiKind("cilium.io", "v2", "ciliumnodes", "CiliumNode", namespaced=False, short=("cn", "ciliumn"), own=True),
)
_CHANGED = {"services", "deployments"}


def find_kind(group: str, version: str, plural: str) -> ApiKind | None:
    """Return a kind, None if there is none."""
    return next((api for api in APIS if (api.group, api.version, api.plural) == (group, version, plural)), None)


def discovery(path: str, address: str) -> Json | None:
    """Return a discovery document, None if the path is none's."""
    groups = {api.group: api.version for api in APIS if api.group}
    if path == "/version":
        major, minor, _ = versions.KUBERNETES.split(".")
        return {"major": major, "minor": minor, "gitVersion": f"v{versions.KUBERNETES}", "platform": "linux/amd64"}
    if path == "/api":
        servers = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": servers}
    if path == "/apis":
        listed = [_group(group, version) for group, version in groups.items()]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": listed}
    if path == "/api/v1":
        return _resources("", "v1")
    group, _, version = path.removeprefix("/apis/").partition("/")
    if not path.startswith("/apis/") or group not in groups or version not in ("", groups[group]):
        return None
    return (
        _resources(group, version)
        if version
        else {"kind": "APIGroup", "apiVersion": "v1", **_group(group, groups[group])}
    )


def status(code: HTTPStatus, reason: str, message: str, details: Mapping[str, object] | None = None) -> Json:
    """Return the object that an API server refuses with."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        **({"details": dict(details)} if details else {}),
        "code": int(code),
    }


def scale_of(deployment: Json) -> Json:
    """Return the Scale of a Deployment."""
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    labels: dict[str, str] = deployment["spec"]["selector"]["matchLabels"]
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: value for name, value in deployment["metadata"].items() if name in kept},
        "spec": {"replicas": deployment["spec"]["replicas"]},
        "status": {
            "replicas": deployment["status"]["replicas"],
            "selector": ",".join(f"{name}={value}" for name, value in labels.items()),
        },
    }


def _group(group: str, version: str) -> Json:
    named = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [named], "preferredVersion": named}


def _resources(group: str, version: str) -> Json:
    listed: list[Json] = []
    for api in APIS:
        if (api.group, api.version) != (group, version):
            continue
        verbs = ["get", "list", "watch", *(["patch"] if api.plural in _CHANGED else [])]
        one: Json = {
            "name": api.plural,
            "singularName": api.kind.lower(),
            "namespaced": api.namespaced,
            "kind": api.kind,
            "verbs": verbs,
        }
        listed.append(one | ({"shortNames": list(api.short)} if api.short else {}))
        if api.plural == "deployments":
            scale = {"name": "deployments/scale", "singularName": "", "namespaced": True, "kind": "Scale"}
            listed.append({**scale, "group": "autoscaling", "version": "v1", "verbs": ["get", "patch"]})
    group_version = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": listed}
