"""What failures of kind, cilium and kubectl mean, and what to try. Each was seen on real clusters. Pure."""

import re
from collections.abc import Sequence

# Trap T4: colours come even without a terminal.
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_SECRET = re.compile(r"-----BEGIN [^-]*PRIVATE KEY-----.*?(-----END [^-]*PRIVATE KEY-----|\Z)", re.DOTALL)
# A PEM block in base64, as Secrets hold it.
_ENCODED = re.compile(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=\\n]+")
_NAMED = re.compile(r'("?(?:client_key|ca\.key|tls\.key|token)"?\s*[:=]\s*)("[^"]*"|\S+)')
_LINES = 6
_LONGEST, _HEAD = 320, 120
_ERROR = re.compile(r"\s*(\w+( \w+)?: )?(error|ERROR|Error|❌)")

_CURES: tuple[tuple[str, str], ...] = (
    (
        r"Cannot connect to the Docker daemon|failed to get docker info|docker.*is not running",
        "start the container engine (systemctl start docker), or leave `driver` out for the embedded twin",
    ),
    (
        r"node\(s\) already exist for a cluster",
        (
            "a cluster of that name exists that this lab did not make: `kind delete cluster --name NAME`, or name "
            "yours otherwise in a mesh description"
        ),
    ),
    (
        r"port is already allocated|address already in use",
        "the port is taken: end what listens there (another kind cluster?), or choose others in [kind.ports]",
    ),
    (
        r"failed to pull image|toomanyrequests",
        "the node image cannot be pulled: load it into the engine, or name one that is there with `node_image`",
    ),
    (
        r"not a valid chart repository|helm\.cilium\.io",
        "the cilium CLI does not carry this chart and cannot fetch it: name a folder with `chart_directory`",
    ),
    (
        r"cannot re-use a name that is still in use",
        "Cilium is installed there already: `meshobs lab down`, then `meshobs lab up`",
    ),
    (
        r"context \"?[\w-]+\"? does not exist|context was not found",
        "the cluster is gone from the lab's kubeconfig: `meshobs lab down`, then `meshobs lab up`",
    ),
    (
        r"remote cluster configuration required but not found",
        (
            "an agent reached its own mesh etcd (cilium#24692): two clusters share the NodePort of clustermesh-"
            "apiserver; `meshobs lab down`, then `meshobs lab up`"
        ),
    ),
    (
        r"agent container has crashed|CrashLoopBackOff",
        (
            "an agent crashes: `kubectl -n kube-system logs ds/cilium --previous` in `meshobs lab env` says why; most "
            "often too little memory or too few inotify instances"
        ),
    ),
    (
        r"ErrImagePull|ImagePullBackOff|ContainerCreating",
        "an image cannot be pulled: `kind load docker-image IMAGE --name CLUSTER`, or wait out a registry's limit",
    ),
    (
        r"hubble-relay.*(?:crash|not ready|Unavailable)|Hubble Relay.*error",
        "Relay comes back minutes after its agents did: `meshobs lab up` waits again",
    ),
    (
        r"connection refused|i/o timeout|TLS handshake timeout|no route to host",
        (
            "the cluster does not answer: is the machine overloaded, are other kind clusters running (`kind get "
            "clusters`)?"
        ),
    ),
    (
        r"only \d+ of \d+ replicas are available|deployment .* is not ready|nodes are not ready|timed? ?out",
        "it is slower than was waited for: `meshobs lab up` goes on waiting; `kubectl get pods -A` shows what hangs",
    ),
    (
        r"another operation .* is in progress",
        "helm was broken off there: `meshobs lab up` clears that and goes on",
    ),
    (
        r"Cilium CA certificates do not match",
        "the clusters have different CAs: `meshobs lab down`, then `meshobs lab up`",
    ),
    (
        r"field \w+ not found in type|unable to decode config",
        "this kind does not know the cluster file: kind 0.20 or newer is needed",
    ),
    (r"is not installed|command not found", "install it, or leave `driver` out for the embedded twin"),
)


def cure(text: str) -> str:
    """Return what to try after a failure with these words; empty if it was never met."""
    return next((advice for pattern, advice in _CURES if re.search(pattern, text, re.IGNORECASE)), "")


def plain(text: str) -> str:
    """Return a program's output without colours and without what nobody may read in a log (trap T5)."""
    shown = _COLOUR.sub("", text)
    for pattern, word in ((_SECRET, "<private key>"), (_ENCODED, "<pem>"), (_NAMED, r"\1<hidden>")):
        shown = pattern.sub(word, shown)
    return shown


def last_lines(text: str) -> list[str]:
    """Return the last lines of an output that say something, from its first error on; of "waiting" only the last."""
    lines = [line.rstrip() for line in plain(text).splitlines() if line.strip()]
    lines_told = [line for index, line in enumerate(lines) if "Waiting (" not in line or index == len(lines) - 1]
    first = next((index for index, line in enumerate(lines_told) if _ERROR.match(line)), 0)
    return [_cut(line) for line in lines_told[first:][-_LINES:]]


def headline(lines: Sequence[str]) -> str:
    """Return the line that says what went wrong: the last error, else the last line."""
    errors = [line for line in lines if _ERROR.match(line)]
    return next(iter([*reversed(errors), *reversed(lines)]), "it said nothing").strip()


def _cut(line: str) -> str:
    """Return a long line without its middle: kind repeats whole commands there."""
    return line if len(line) <= _LONGEST else f"{line[:_HEAD]} ... {line[_HEAD - _LONGEST :]}"
