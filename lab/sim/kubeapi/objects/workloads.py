"""Services, Pods and Deployments as an API server shows them. Pure."""

from collections.abc import Mapping, Sequence

from meshobs.lab.sim.kubeapi.objects.maker import Json, Key, Maker


def add_service(
    maker: Maker,
    key: Key,
    addresses: Sequence[str],
    port: Json,
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str] | None = None,
    selector: Mapping[str, str] | None = None,
) -> None:
    """Make a Service with one port, of type NodePort where that port has one; its addresses are one of each family."""
    spec: Json = {
        "clusterIP": addresses[0],
        "clusterIPs": list(addresses),
        "internalTrafficPolicy": "Cluster",
        "ipFamilies": ["IPv4", "IPv6"][: len(addresses)],
        "ipFamilyPolicy": "RequireDualStack" if len(addresses) > 1 else "SingleStack",
        "ports": [port],
        "sessionAffinity": "None",
        "type": "NodePort" if "nodePort" in port else "ClusterIP",
    }
    if selector:
        spec["selector"] = dict(selector)
    if "nodePort" in port:
        spec["externalTrafficPolicy"] = "Cluster"
    balancer: Json = {"loadBalancer": {}}
    maker.add(key, "v1", "Service", labels=labels, annotations=annotations, spec=spec, status=balancer)


def add_pod(
    maker: Maker,
    key: Key,
    node: str,
    host: str,
    addresses: Sequence[str],
    container: Json,
    *,
    labels: Mapping[str, str],
    owner: Json | None = None,
    meta: Json | None = None,
    ready: bool = True,
    host_network: bool = False,
) -> None:
    """Make a running Pod.

    Args:
        maker: collects it.
        key: which.
        node: name of its node.
        host: address of its node.
        addresses: its own, one of each family.
        container: its only one, as in its spec.
        labels: its labels.
        owner: what controls it.
        meta: more of its metadata.
        ready: whether it says so.
        host_network: it has its node's address.
    """
    said = "True" if ready else "False"
    conditions = (("Initialized", "True"), ("PodScheduled", "True"), ("ContainersReady", said), ("Ready", said))
    spec: Json = {
        "containers": [container],
        "dnsPolicy": "ClusterFirst",
        "nodeName": node,
        "restartPolicy": "Always",
        "schedulerName": "default-scheduler",
    }
    maker.add(
        key,
        "v1",
        "Pod",
        labels=labels,
        owner=owner,
        meta={"generation": 1, **(meta or {})},
        spec=spec | ({"hostNetwork": True} if host_network else {}),
        status={
            "conditions": [{"type": kind, "status": status} for kind, status in conditions],
            "containerStatuses": [
                {
                    "image": container["image"],
                    "imageID": container["image"],
                    "name": container["name"],
                    "ready": ready,
                    "restartCount": 0,
                    "started": True,
                    "state": {"running": {}},
                }
            ],
            "hostIP": host,
            "hostIPs": [{"ip": host}],
            "phase": "Running",
            "podIP": addresses[0],
            "podIPs": [{"ip": address} for address in addresses],
            "qosClass": "BestEffort",
        },
    )


def add_deployment(
    maker: Maker, key: Key, labels: Mapping[str, str], container: Json, replicas: int, ready: int
) -> None:
    """Make a Deployment that has all the pods it wants, of which some are ready."""
    maker.add(
        key,
        "apps/v1",
        "Deployment",
        labels=labels,
        meta={"generation": 1},
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": dict(labels)},
            "strategy": {"type": "RollingUpdate"},
            "template": {"metadata": {"labels": dict(labels)}, "spec": {"containers": [container]}},
        },
        status={
            "availableReplicas": ready,
            "observedGeneration": 1,
            "readyReplicas": ready,
            "replicas": replicas,
            "unavailableReplicas": replicas - ready,
            "updatedReplicas": replicas,
        },
    )


def container(name: str, image: str, ports: Sequence[Json] = ()) -> Json:
    """Return a container of a Pod's spec."""
    of_ports: Json = {"ports": list(ports)} if ports else {}
    return {"image": image, "imagePullPolicy": "IfNotPresent", "name": name, "resources": {}, **of_ports}
