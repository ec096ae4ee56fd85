"""What answers UDP in pods of traefik/whoami, which speaks TCP only: a container beside it, on the same port. Pure.

It answers as whoami does, one datagram for one, by socat of the clients' image, and never makes its pod unready.
"""

from collections.abc import Iterable

from meshobs.lab.clusters.manifests import Manifest
from meshobs.lab.mesh import versions
from meshobs.lab.mesh.model import Mesh

# $1 is the port. socat tells the answering program whose datagram it was, and sends each of its writes as one datagram:
# bash's own printf would write line by line.
SCRIPT = """
export ANSWER='env printf "Hostname: %s\\nIP: %s\\nRemoteAddr: %s:%s\\n" \
  "$HOSTNAME" "$(hostname -i)" "$SOCAT_PEERADDR" "$SOCAT_PEERPORT"'
while true; do
  socat "UDP4-RECVFROM:$1,fork" "SYSTEM:printenv ANSWER | bash"
  sleep 5
done
"""


def add_servers(objects: Iterable[Manifest], mesh: Mesh) -> list[Manifest]:
    """Return objects of workloads whose pods of whoami answer UDP, too.

    Args:
        objects: as `manifests` makes them.
        mesh: whose clients' image has bash and socat.
    """
    image = next((one.image for one in mesh.workloads if not one.port), versions.CLIENT_IMAGE)
    return [_add_server(one, image) for one in objects]


def _add_server(one: Manifest, image: str) -> Manifest:
    if one["kind"] == "Pod":
        return {**one, "spec": _with_server(one["spec"], image)}
    if one["kind"] == "Deployment":
        template = one["spec"]["template"]
        template = {**template, "spec": _with_server(template["spec"], image)}
        return {**one, "spec": {**one["spec"], "template": template}}
    return one


def _with_server(spec: Manifest, image: str) -> Manifest:
    """Return a pod's spec with the server beside whoami; what is no whoami stays as it is."""
    (container,) = spec["containers"]
    if container["image"].partition(":")[0] != versions.SERVER_IMAGE or "ports" not in container:
        return spec
    port = container["ports"][0]["containerPort"]
    server = {
        "name": "udp", "image": image, "imagePullPolicy": "IfNotPresent",
        "command": ["bash", "-c", SCRIPT, "udp", str(port)],
        "ports": [{"containerPort": port, "protocol": "UDP"}],
    }  # fmt: skip
    return {**spec, "containers": [container, server]}
