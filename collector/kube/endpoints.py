"""Endpoints, the older form of EndpointSlices: what `kubectl get endpoints` and `cilium sysdump` give.

One object may hold several sets of addresses, each with its own ports: each becomes a slice of its own.
"""

from meshobs.collector.kube.document import Json, items, text

# Kubernetes leaves out what is more than a thousand addresses and says so.
_CAPACITY = "endpoints.kubernetes.io/over-capacity"


def slices_of(document: Json) -> list[Json]:
    """Return an Endpoints object as EndpointSlices; one without addresses is a slice without endpoints."""
    name = text(document, "metadata", "name")
    subsets = items(document, "subsets") or [{}]
    return [
        {
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}/endpoints-{number}",
                "namespace": text(document, "metadata", "namespace"),
                "uid": text(document, "metadata", "uid"),
                "creationTimestamp": text(document, "metadata", "creationTimestamp"),
                "labels": {"kubernetes.io/service-name": name},
            },
            "ports": items(subset, "ports"),
            "endpoints": [
                _endpoint(address, ready=key == "addresses")
                for key in ("addresses", "notReadyAddresses")
                for address in items(subset, key)
            ],
        }
        for number, subset in enumerate(subsets)
    ]


def is_cut(document: Json) -> bool:
    """Tell whether Kubernetes left out addresses of an Endpoints object."""
    return text(document, "metadata", "annotations", _CAPACITY) == "truncated"


def _endpoint(address: Json, *, ready: bool) -> Json:
    return {
        "addresses": [text(address, "ip")],
        "nodeName": text(address, "nodeName"),
        "targetRef": {"name": text(address, "targetRef", "name")},
        "conditions": {"ready": ready},
    }
