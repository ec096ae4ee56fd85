"""Stands in for kind, cilium, kubectl, docker and curl on PATH: says what the real ones said, to the letter.

Recordings of real commands (tests/data/kind) give output and exit code, their time is compressed. What commands change
is kept in a folder: clusters that exist, Secrets, annotations. A command of which there is no recording ends with 99.

Environment: KINDFAKE is the folder. In it `fault.json` may say {"match": words, "step": a recorded failure, "times": n}
or {"match": words, "hang": true}: then the command hangs, after it has made the file `hanging`.
"""

import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

DATA = Path(__file__).resolve().parent.parent / "data" / "kind"
OBJECTS = Path(__file__).resolve().parent.parent / "recordings" / "kind-global-none"
FOLDER = Path(os.environ.get("KINDFAKE", "."))
SPEED = 1 / 2000
VALUED = {
    "--context",
    "-n",
    "--namespace",
    "--version",
    "--set",
    "--config",
    "--name",
    "--wait-duration",
    "-l",
    "-p",
    "-f",
    "-c",
    "--destination-context",
    "--service-type",
    "--chart-directory",
    "-o",
    "--format",
    "--field-selector",
    "--selector",
}
# Of commands that are not told apart by their words alone.
SIGNIFICANT = ("--context", "--destination-context", "--name")


def words_of(command: list[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return a command's words that are no flags, and its flags."""
    words: list[str] = []
    flags: dict[str, list[str]] = {}
    rest = list(command)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += ["--", *rest]
            break
        if word in VALUED and rest:
            flags.setdefault(word, []).append(rest.pop(0))
        elif word.startswith("-") and len(word) > 1:
            name, _, value = word.partition("=")
            flags.setdefault(name, []).append(value)
        else:
            words.append(word)
    return words, flags


def key_of(command: list[str]) -> tuple[str, ...]:
    """Return what makes two calls the same command."""
    words, flags = words_of(command)
    config = Path(flags["--config"][0]).name if "--config" in flags else ""
    return (*words, config, *(flags.get(name, [""])[0] for name in SIGNIFICANT))


def recorded() -> dict[tuple[str, ...], dict[str, Any]]:
    """Return successful commands as they were recorded; where a command has several, those of the last run count."""
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    for name in ("walkthrough", "again"):
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            one = json.loads(line)
            if one["rc"] == 0:
                found[key_of(shlex.split(one["command"]))] = one
    return found


def failure(step: str) -> dict[str, Any]:
    """Return a recorded failure by its step."""
    for name in ("failures", "walkthrough"):
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            one: dict[str, Any] = json.loads(line)
            if one["step"] == step:
                return one
    raise SystemExit(f"no recorded failure {step}")


def state() -> dict[str, Any]:
    """Return what commands have changed so far."""
    path = FOLDER / "state.json"
    return (
        json.loads(path.read_text())
        if path.exists()
        else {"clusters": [], "installed": [], "ca": {}, "annotations": {}}
    )


def keep(content: dict[str, Any]) -> None:
    (FOLDER / "state.json.new").write_text(json.dumps(content))
    (FOLDER / "state.json.new").rename(FOLDER / "state.json")


def say(one: dict[str, Any]) -> NoReturn:
    """Say what a recorded command said, and end as it did."""
    time.sleep((one["seconds"] or 0) * SPEED)
    sys.stdout.write(one["stdout"])
    sys.stderr.write(one["stderr"])
    sys.exit(one["rc"])


def end(code: int, out: str = "", err: str = "") -> NoReturn:
    sys.stdout.write(out)
    sys.stderr.write(err)
    sys.exit(code)


def context_error(program: str, context: str) -> NoReturn:
    """A context that the kubeconfig does not have, as each program says it."""
    if program == "kubectl":
        end(1, err=f"Error in configuration: context was not found for specified context: {context}\n")
    end(1, err=f'unable to create Kubernetes client: context "{context}" does not exist\n')


def kubeconfig(now: dict[str, Any]) -> None:
    """Write contexts of the clusters that there are; they lead to the API servers of a sim."""
    servers = json.loads((FOLDER / "servers.json").read_text())
    ours = [one for one in now["clusters"] if one in servers]
    names = [f"kind-{name}" for name in ours]
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": names[-1] if names else "",
        "clusters": [{"name": f"kind-{one}", "cluster": {"server": servers[one]["server"]}} for one in ours],
        "users": [{"name": f"kind-{one}", "user": {"token": servers[one]["token"]}} for one in ours],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in names],
    }
    Path(os.environ["KUBECONFIG"]).write_text(json.dumps(content))


def kind(command: list[str], words: list[str], flags: dict[str, list[str]], now: dict[str, Any]) -> None:
    if words[1:3] == ["get", "clusters"]:
        end(
            0,
            "".join(f"{name}\n" for name in sorted(now["clusters"])),
            "" if now["clusters"] else "No kind clusters found.\n",
        )
    if words[1:] == ["version"]:
        say(failure("try1/019-kind-version"))
    name = flags["--name"][0] if "--name" in flags else Path(flags["--config"][0]).stem.removeprefix("kind-")
    if words[1] == "delete":
        if name in now["clusters"]:
            now["clusters"].remove(name)
            now["installed"] = [one for one in now["installed"] if one != name]
            now["ca"].pop(name, None)
            keep(now)
            kubeconfig(now)
        say(failure("try1/022-kind-delete-west") | {"stderr": f'Deleting cluster "{name}" ...\n'})
    if name in now["clusters"]:
        say(failure("try1/002-kind-create-existing"))
    now["clusters"].append(name)
    keep(now)
    hang(command)
    kubeconfig(now)


def cilium(words: list[str], flags: dict[str, list[str]], now: dict[str, Any]) -> None:
    if words[1] == "version":
        return
    context = flags["--context"][0]
    name = context.removeprefix("kind-")
    if name not in now["clusters"]:
        context_error("cilium", context)
    if words[1] == "install":
        if name in now["installed"]:
            say(failure("fail/002-cilium-install-already"))
        now["installed"].append(name)
        now["ca"][name] = f"of {name}"
        (FOLDER / f"values-{name}.json").write_text(json.dumps(flags["--set"]))
        keep(now)
    if words[1:3] == ["clustermesh", "connect"]:
        now["connected"] = True
        keep(now)
    if words[1] == "uninstall":
        now["installed"] = [one for one in now["installed"] if one != name]
        now["ca"].pop(name, None)
        keep(now)
        end(0)


def kubectl(words: list[str], flags: dict[str, list[str]], now: dict[str, Any]) -> None:
    if words[1] == "version":
        say(failure("try1/020-kubectl-version"))
    context = flags["--context"][0]
    name = context.removeprefix("kind-")
    cache = Path(os.environ.get("KUBECACHEDIR") or Path.home() / ".kube" / "cache")
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "discovery").write_text(name)
    if name not in now["clusters"]:
        context_error("kubectl", context)
    if words[1:4] == ["get", "secret", "cilium-ca"]:
        if name not in now["ca"]:
            end(1, err='Error from server (NotFound): secrets "cilium-ca" not found\n')
        meta = {
            "name": "cilium-ca",
            "namespace": "kube-system",
            "uid": f"uid-{name}",
            "resourceVersion": "647",
            "annotations": {"meta.helm.sh/release-name": "cilium"},
        }
        data = {"ca.crt": "LS0tLS1CRUdJTiBDRVJU", "ca.key": now["ca"][name]}
        end(0, json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": data}))
    if words[1] == "delete" and "secret" in words:
        if "cilium-ca" in words:
            now["ca"].pop(name, None)
            keep(now)
        end(0, 'secret "cilium-ca" deleted\n' if "cilium-ca" in words else "No resources found\n")
    if words[1] == "create":
        given = json.load(sys.stdin)
        assert not {"resourceVersion", "uid"} & set(given["metadata"]), given
        now["ca"][name] = given["data"]["ca.key"]
        keep(now)
        end(0, "secret/cilium-ca created\n")
    faulted(words, flags, now, name)
    if words[1] == "get":
        kinds = {"pods": "Pod", "services": "Service", "nodes": "Node"}
        wanted = {kinds[one] for one in words[2].split(",")}
        items = json.loads((OBJECTS / f"k8s-{name}.json").read_text())["items"]
        end(0, json.dumps({"items": [one for one in items if one["kind"] in wanted]}))
    if words[1] == "exec":
        inside(words[words.index("--") + 1 :], name, now)
    if words[1] == "rollout" and "deployment/hubble-relay" in words:
        end(0, 'deployment "hubble-relay" successfully rolled out\n')
    if words[1] in ("annotate", "scale"):
        end(0, f"{words[2]}/{words[3] if words[1] == 'annotate' else words[2]} {words[1]}d\n")
    if words[1] in ("wait", "rollout", "apply", "delete") and "-f" in flags and flags["-f"] == ["-"]:
        (FOLDER / f"{words[1]}-{name}.yaml").write_text(sys.stdin.read())
        end(0)


def faulted(words: list[str], flags: dict[str, list[str]], now: dict[str, Any], name: str) -> None:
    """Answer what faults ask of kube-system, and do it."""
    if words[1] == "get" and words[2] in ("configmap", "daemonset"):
        end(0, json.dumps(system(now, name)[words[3]]))
    if words[1] == "patch":
        merge(system(now, name)[words[3]], json.loads(flags["-p"][0]))
        keep(now)
        end(0, f"{words[2]}/{words[3]} patched\n")
    if words[1] == "get" and flags.get("-l") == ["k8s-app=cilium"]:
        on = flags.get("--field-selector", [""])[0].removeprefix("spec.nodeName=")
        there = [node for node in agents(now, name) if on in ("", node)]
        end(0, "".join(f"pod/cilium-{node}\n" for node in there))
    if words[1] == "wait" and "-l" in flags:
        end(0, "pod/cilium-x condition met\n")
    if words[1] == "delete" and "-l" in flags:
        end(0, "pod cilium-x deleted\n")


def docker(words: list[str], now: dict[str, Any]) -> None:
    if words[1] == "info":
        end(0, json.dumps({"MemTotal": 2**35, "NCPU": 2, "DockerRootDir": "/", "ServerVersion": "20.10.24"}))
    if words[1] == "inspect":
        if now.get("outside"):
            end(0, "172.18.0.9\n")
        end(1, "\n", "Error: No such object: meshobs-outside\n")
    if words[1] in ("run", "rm"):
        now["outside"] = words[1] == "run"
        keep(now)
        end(0, "meshobs-outside\n")
    if words[1] == "exec" and "ip" not in words:
        inside(words[3:], words[2], now)
    if words[1] == "exec" and not now.get("connected"):
        lines = (DATA / "again.jsonl").read_text(encoding="utf-8").splitlines()
        say(next(one for one in map(json.loads, lines) if one["step"].endswith(f"routes-before-{words[2]}")))


def system(now: dict[str, Any], cluster: str) -> dict[str, Any]:
    """Return the objects of kube-system that faults change, by name; the values are those of Cilium's chart."""
    config = {"hubble-event-buffer-capacity": "16383"}
    other = {"west": "10.1.0.0/16", "east": "10.0.0.0/16"}[cluster]
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "host"}]}}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 2}}
    spec = {"updateStrategy": strategy, "template": {"spec": {"affinity": affinity}}}
    found: dict[str, Any] = now.setdefault("system", {}).setdefault(cluster, {
        "cilium-config": {"data": config},
        "ip-masq-agent": {"data": {"config": f"nonMasqueradeCIDRs:\n- {other}\nmasqLinkLocal: false\n"}},
        "cilium": {"spec": spec},
    })  # fmt: skip
    return found


def merge(target: dict[str, Any], patch: dict[str, Any]) -> None:
    """Merge a patch as RFC 7386 says."""
    for key, value in patch.items():
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            merge(target.setdefault(key, {}), value)
        else:
            target[key] = value


def agents(now: dict[str, Any], cluster: str) -> list[str]:
    """Return the nodes that the DaemonSet has an agent on."""
    affinity = system(now, cluster)["cilium"]["spec"]["template"]["spec"]["affinity"].get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    barred = [value for term in terms for rule in term["matchExpressions"] for value in rule["values"]]
    return [node for node in (f"{cluster}-control-plane", f"{cluster}-worker") if node not in barred]


def inside(command: list[str], where: str, now: dict[str, Any]) -> NoReturn:
    """Run a command in a pod or node: scripts really run, with this file as their curl."""
    if command[0] == "cilium-dbg":
        end(0, system(now, where)["ip-masq-agent"]["data"]["config"])
    if command[0] == "ss" and "dport" in command[-1]:
        end(0, '0 0 172.18.0.3:41234 172.18.0.3:6443 users:(("cilium-agent",pid=9,fd=7))\n')
    # What goes on without end is only noted: it would outlive the test.
    if command[0] == "bash" and "setsid" not in command[2]:
        os.environ["KINDFAKE_WHERE"] = where
        os.execvp("bash", command)  # noqa: S606 - as kubectl exec does
    end(0)


def curl(command: list[str]) -> NoReturn:
    """Answer as whoami does: a pod by its address, a Service by one of all four in turn."""
    pods: dict[str, str] = {}
    services: list[str] = []
    for cluster in ("west", "east"):
        for one in json.loads((OBJECTS / f"k8s-{cluster}.json").read_text())["items"]:
            if one["kind"] == "Pod" and one["metadata"].get("labels", {}).get("app") == "webpod":
                pods[one["status"]["podIP"]] = one["metadata"]["name"]
            if one["kind"] == "Service":
                services.append(one["spec"].get("clusterIP"))
    form = command[command.index("-w") + 1]
    for url in (word for word in command if word.startswith("http://")):
        address = url.removeprefix("http://").partition(":")[0]
        if address in pods:
            name = pods[address]
        else:
            # As the recorded hundred: all four alike.
            name = sorted(pods.values())[os.getpid() % len(pods)]
            address = next(one for one in pods if pods[one] == name)
        sys.stdout.write(
            f"Hostname: {name}\nIP: 127.0.0.1\nIP: {address}\nRemoteAddr: 10.0.1.223:40000\nGET / HTTP/1.1\n"
        )
        told = {
            "http_code": "200",
            "local_ip": "10.0.1.223",
            "local_port": "40000",
            "remote_ip": address,
            "remote_port": "80",
            "time_total": "0.002",
            "exitcode": "0",
            "errormsg": "",
        }
        text = form.removeprefix("%{stderr}").replace("\\n", "\n")
        for key, value in told.items():
            text = text.replace(f"%{{{key}}}", value)
        sys.stdout.write(text)
    end(0)


def hang(command: list[str]) -> None:
    """Hang if the test says so."""
    told = fault()
    if told.get("hang") and matches(told, command):
        (FOLDER / "hanging").write_text(shlex.join(command))
        time.sleep(600)


def fault() -> dict[str, Any]:
    path = FOLDER / "fault.json"
    return json.loads(path.read_text()) if path.exists() else {}


def matches(told: dict[str, Any], command: list[str]) -> bool:
    return all(word in shlex.join(command) for word in shlex.split(told["match"]))


def broken(command: list[str]) -> None:
    """Fail as a recorded command did, if the test says so."""
    told = fault()
    if "step" in told and told.get("times", 1) and matches(told, command):
        (FOLDER / "fault.json").write_text(json.dumps(told | {"times": told.get("times", 1) - 1}))
        say(failure(told["step"]))


def main() -> None:
    command = sys.argv[1:]
    if command[0] == "curl":
        curl(command)
    with (FOLDER / "calls.txt").open("a") as calls:
        calls.write(shlex.join(one for one in command if "\n" not in one) + "\n")
    words, flags = words_of(command)
    broken(command)
    if not (command[0] == "kind" and words[1] == "create"):
        hang(command)
    now = state()
    if command[0] == "kind":
        kind(command, words, flags, now)
    elif command[0] == "cilium":
        cilium(words, flags, now)
    elif command[0] == "kubectl":
        kubectl(words, flags, now)
    else:
        docker(words, now)
    known = recorded()
    if key_of(command) not in known:
        end(99, err=f"no recording of {shlex.join(command)}\n")
    say(known[key_of(command)])


main()
