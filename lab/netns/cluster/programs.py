"""How each program is started and what its files say, from the mesh's description. Pure."""

import base64
import json
from collections.abc import Mapping, Sequence

from meshobs.lab.mesh import ipv6
from meshobs.lab.mesh.model import Cluster, Node
from meshobs.lab.netns.host.layout import (
    API_PORT,
    ETCD_PORT,
    HUBBLE_PORT,
    LIBRARY,
    MASQUERADE,
    MESH_PORT,
    RELAY_PORT,
    REMOTES,
    Layout,
    control_plane,
    state,
)
from meshobs.lab.netns.host.pki import Pair

# Debian's etcd 3.4 needs none of its safety: all of it lies in memory.
_PEER_PORTS = {ETCD_PORT: 2380, MESH_PORT: 32380}
# The whole chart's controllers would look after nodes, volumes and tokens that this lab does not have.
_CONTROLLERS = (
    "deployment-controller", "replicaset-controller", "endpointslice-controller", "garbage-collector-controller",
    "namespace-controller",
)  # fmt: skip
# An agent's queue of events before its ring; Cilium's own choice on two cores is 2,048.
QUEUE = 16_384


def agent(cluster: Cluster, layout: Layout, hubble: Pair) -> dict[str, str]:
    """Return an agent's settings, as ConfigMap cilium-config would hold them (S3, S7).

    Args:
        cluster: whose agent.
        layout: of the lab.
        hubble: its certificate for Relays.
    """
    found = {
        "auto-direct-node-routes": "true",
        "bpf-lb-sock": "true",
        "bpf-root": "/sys/fs/bpf",
        "cgroup-root": "/run/cilium/cgroupv2",
        "cluster-id": str(cluster.id),
        "cluster-name": cluster.name,
        "clustermesh-config": f"{REMOTES}/",
        "cni-exclusive": "false",
        "devices": "eth0",
        "direct-routing-device": "eth0",
        "enable-bpf-masquerade": "true",
        "enable-endpoint-health-checking": "false",
        "enable-health-check-nodeport": "false",
        "enable-health-checking": "false",
        "enable-hubble": "true",
        "enable-ip-masq-agent": "true",
        "enable-ipv4": "true",
        "enable-ipv4-masquerade": "true",
        "enable-ipv6": "false",
        "enable-l7-proxy": "false",
        "enable-policy": "default",
        "enable-tcx": "true",
        "hubble-disable-tls": "false",
        "hubble-event-buffer-capacity": str(cluster.ring),
        "hubble-event-queue-size": str(QUEUE),
        "hubble-listen-address": f":{HUBBLE_PORT}",
        "hubble-socket-path": "/run/cilium/hubble.sock",
        "hubble-tls-cert-file": str(hubble.cert),
        "hubble-tls-client-ca-files": str(hubble.ca),
        "hubble-tls-key-file": str(hubble.key),
        "identity-allocation-mode": "crd",
        "identity-change-grace-period": "0s",
        "ip-masq-agent-config-path": str(MASQUERADE),
        "ipam": "kubernetes",
        "ipv4-native-routing-cidr": cluster.native_routing_cidr,
        "k8s-client-burst": "200",
        "k8s-client-qps": "100",
        "k8s-kubeconfig-path": str(layout.kubeconfig(cluster.name)),
        "k8s-require-ipv4-pod-cidr": "true",
        "kube-proxy-replacement": "true",
        "lib-dir": str(LIBRARY),
        "monitor-aggregation": cluster.aggregation,
        "monitor-aggregation-flags": "all",
        "monitor-aggregation-interval": "5s",
        "preallocate-bpf-maps": "false",
        "routing-mode": "native",
        "state-dir": "/run/cilium",
        # A small machine carries many nodes.
        "bpf-ct-global-any-max": "8192",
        "bpf-ct-global-tcp-max": "16384",
        "bpf-lb-map-max": "4096",
        "bpf-nat-global-max": "16384",
        "bpf-neigh-global-max": "16384",
        "bpf-policy-map-max": "4096",
    }
    if not cluster.socket_lb:
        found["bpf-lb-sock-hostns-only"] = "true"
    if cluster.variant.dual_stack:
        found |= {
            "enable-ipv6": "true",
            "enable-ipv6-masquerade": "true",
            "ipv6-native-routing-cidr": cluster.native_routing_cidr6,
            "k8s-require-ipv6-pod-cidr": "true",
        }
    return cluster.variant.apply(found)


def masquerade(cidrs: Sequence[str]) -> str:
    """Return the file of ip-masq-agent: to these ranges nothing is masqueraded.

    Args:
        cidrs: at least one, else Cilium would take its own list, which spares all private addresses.
    """
    return "\n".join(("nonMasqueradeCIDRs:", *(f"- {cidr}" for cidr in cidrs), "masqLinkLocal: false", ""))


def etcd(cluster: Cluster, port: int, pair: Pair | None) -> list[str]:
    """Return how an etcd is started: that of the API server without TLS, that of the mesh with it.

    Args:
        cluster: whose.
        port: that it listens on.
        pair: its certificate; only clients of the same authority are let in. None to listen on loopback in plain text.
    """
    node = control_plane(cluster)
    url = f"https://0.0.0.0:{port}" if pair else f"http://127.0.0.1:{port}"
    advertised = f"https://{node.address}:{port}" if pair else url
    peer = f"http://127.0.0.1:{_PEER_PORTS[port]}"
    command = [
        "etcd", "--name", cluster.name, "--data-dir", f"/run/etcd/{cluster.name}-{port}",
        "--listen-client-urls", url, "--advertise-client-urls", advertised,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
        "--initial-cluster", f"{cluster.name}={peer}", "--unsafe-no-fsync", "--log-level", "warn",
    ]  # fmt: skip
    if pair:
        command += ["--client-cert-auth", "--trusted-ca-file", str(pair.ca)]
        command += ["--cert-file", str(pair.cert), "--key-file", str(pair.key)]
    return command


def api_server(cluster: Cluster, pair: Pair, signing: tuple[str, str]) -> list[str]:
    """Return how an API server is started.

    Args:
        cluster: whose.
        pair: its certificate.
        signing: files of the key for service accounts and its public half.
    """
    node = control_plane(cluster)
    return [
        "kube-apiserver",
        f"--etcd-servers=http://127.0.0.1:{ETCD_PORT}",
        f"--service-cluster-ip-range={','.join(cluster.service_cidrs)}",
        f"--advertise-address={node.address}",
        f"--secure-port={API_PORT}",
        f"--tls-cert-file={pair.cert}",
        f"--tls-private-key-file={pair.key}",
        f"--client-ca-file={pair.ca}",
        f"--service-account-issuer=https://{cluster.name}.meshobs",
        f"--service-account-key-file={signing[1]}",
        f"--service-account-signing-key-file={signing[0]}",
        # Who has a certificate of the lab may do everything.
        "--authorization-mode=AlwaysAllow",
        "--anonymous-auth=false",
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
        "--allow-privileged=true",
        "--profiling=false",
    ]


def controllers(layout: Layout, cluster: Cluster) -> list[str]:
    """Return how the controllers of Deployments and EndpointSlices are started."""
    return [
        "kube-controller-manager",
        f"--kubeconfig={layout.kubeconfig(f'{cluster.name}-local')}",
        f"--controllers={','.join(_CONTROLLERS)}",
        "--leader-elect=false",
        "--use-service-account-credentials=false",
        "--bind-address=127.0.0.1",
        "--kube-api-qps=100",
        "--kube-api-burst=200",
    ]


def kube_proxy(layout: Layout, cluster: Cluster, node: Node) -> list[str]:
    """Return how a node's kube-proxy is started: where the agents leave the Services of hosts, and NodePorts, to it."""
    families = (cluster.pod_cidr, *([ipv6.range_of(cluster.pod_cidr)] if cluster.variant.dual_stack else []))
    return [
        "kube-proxy",
        f"--kubeconfig={layout.kubeconfig(cluster.name)}",
        f"--hostname-override={node.name}",
        f"--cluster-cidr={','.join(families)}",
        "--proxy-mode=iptables",
        # How much the whole machine tracks is not this lab's to say.
        "--conntrack-max-per-core=0",
        "--conntrack-min=0",
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
        "--healthz-bind-address=127.0.0.1:10256",
        "--metrics-bind-address=127.0.0.1:10249",
    ]


def mesh_api_server(layout: Layout, cluster: Cluster) -> list[str]:
    """Return how the clustermesh-apiserver is started."""
    return [
        "clustermesh-apiserver",
        "clustermesh",
        *_own_store(layout, cluster),
        f"--k8s-kubeconfig-path={layout.kubeconfig(f'{cluster.name}-local')}",
        "--k8s-client-qps=100",
        "--k8s-client-burst=200",
        "--health-port=9880",
        "--cluster-users-enabled=false",
        *(f"--{key}={value}" for key, value in cluster.variant.clustermesh_apiserver.items()),
    ]


def kvstoremesh(layout: Layout, cluster: Cluster) -> list[str]:
    """Return how the copy of the other clusters' stores is kept, in the cluster's own one."""
    return [
        "clustermesh-apiserver",
        "kvstoremesh",
        *_own_store(layout, cluster),
        f"--clustermesh-config={layout.remotes(cluster.name)}",
        "--health-port=9881",
    ]


def _own_store(layout: Layout, cluster: Cluster) -> list[str]:
    """Return how a program of clustermesh-apiserver knows its cluster and reaches its store."""
    return [
        f"--cluster-name={cluster.name}",
        f"--cluster-id={cluster.id}",
        "--kvstore-opt",
        f"etcd.config={layout.folder / f'{cluster.name}.etcd'}",
    ]


def relay(cluster: Cluster, server: Pair, client: Pair) -> list[str]:
    """Return how a Relay is started, with TLS on both of its sides."""
    return [
        "hubble-relay",
        "serve",
        "--peer-service=unix:///run/cilium/hubble.sock",
        f"--listen-address=:{RELAY_PORT}",
        f"--cluster-name={cluster.name}",
        "--gops=false",
        "--retry-timeout=5s",
        f"--tls-hubble-client-cert-file={client.cert}",
        f"--tls-hubble-client-key-file={client.key}",
        f"--tls-hubble-server-ca-files={client.ca}",
        f"--tls-relay-server-cert-file={server.cert}",
        f"--tls-relay-server-key-file={server.key}",
        f"--tls-relay-client-ca-files={server.ca}",
    ]


def etcd_client(host: str, pair: Pair) -> str:
    """Return the file by which agents and clustermesh-apiservers reach an etcd of the mesh."""
    lines = (
        "endpoints:", f"- https://{host}:{MESH_PORT}", f"trusted-ca-file: {pair.ca}", f"cert-file: {pair.cert}",
        f"key-file: {pair.key}", "",
    )  # fmt: skip
    return "\n".join(lines)


def kubeconfig(servers: Mapping[str, str], pair: Pair) -> str:
    """Return a kubeconfig, as JSON, which is YAML too.

    Args:
        servers: context -> URL; the first is the current context.
        pair: what all of them take.
    """
    data = {key: base64.b64encode(path.read_bytes()).decode() for key, path in vars(pair).items()}
    users = {"client-certificate-data": data["cert"], "client-key-data": data["key"]}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": next(iter(servers)),
            "clusters": [
                {"name": name, "cluster": {"server": url, "certificate-authority-data": data["ca"]}}
                for name, url in servers.items()
            ],
            "users": [{"name": name, "user": users} for name in servers],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in servers],
        },
        indent=2,
    )


def node_script(node: Node, name: str) -> str:
    """Return what makes a process' namespaces those of a node, told as a script for sh.

    The agent writes settings of the whole machine: files of the lab's own lie over them.

    Args:
        node: which.
        name: of a folder for these files.
    """
    shadow = f"{name}/sysctl"
    lines = [
        "set -e",
        f"echo {node.name} > /proc/sys/kernel/hostname",
        "mount -t sysfs sysfs /sys",
        "mount -t bpf bpffs /sys/fs/bpf",
        "mount -t cgroup2 none /sys/fs/cgroup",
        f"mkdir -p /run/cilium {LIBRARY} {shadow} {state(node)} {name}/lib",
        f"mount --bind {state(node)} /run/cilium",
        f"mount --bind {name}/lib {LIBRARY}",
        "for key in unprivileged_bpf_disabled timer_migration; do",
        f"  cat /proc/sys/kernel/$key > {shadow}/$key; mount --bind {shadow}/$key /proc/sys/kernel/$key",
        "done",
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        *(["echo 1 > /proc/sys/net/ipv6/conf/all/forwarding"] if node.address6 else []),
        "for one in all default eth0 hubble0; do echo 0 > /proc/sys/net/ipv4/conf/$one/rp_filter; done",
        "echo ready",
        "exec sleep infinity",
    ]
    return "\n".join(lines)
