"""Calls where only a shell is at hand: the script that a client runs, and what its lines tell. Pure.

TCP by curl, ICMP by ping, UDP by bash itself. A server must answer as traefik/whoami does: Hostname, IP (a line each)
and RemoteAddr, in plain text, for UDP in one datagram. Lines are short, and each is written at once, so those of calls
side by side do not mix.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from meshobs.lab.traffic import Request, Traffic

# Seconds until a client gives up; a client's process carries this mark, so that it can be ended.
_PATIENCE = 5
# Key of the times at which a server's lines came.
_HEARD = ""
# Calls of one client that may be open at once: where nobody answers, a client without end must not fill its machine.
_MOST_OPEN = 200
MARK = "meshobs-client"
# What curl's exit codes mean, as far as calls of a lab meet them.
_WORDS = {"7": "connection refused", "28": "timed out", "52": "empty answer", "56": "reset"}
# Of curl: what it tells after each request, in a line of its own.
_LINE = (
    r"\n@ %{http_code} %{local_ip} %{local_port} %{remote_ip} %{remote_port} %{time_total} %{exitcode} %{errormsg}\n"
)

# $1 connections (0: without end), $2 microseconds between two, $3 requests on each, $4 their rate for curl,
# $5 protocol, $6... targets in turn. Starts are counted from the first, so that the rate holds whatever a call takes.
# A datagram must be read at once, which bash's `read` does not do; the socket's address stands in the kernel's list.
SCRIPT = rf"""
export LC_ALL=C
count=$1 pause=$2 requests=$3 rate=$4 protocol=$5
shift 5
targets=("$@")
datagrams() {{
  local host=${{1%:*}} port=${{1##*:}} fd inode at found own= own_port= began took code
  exec {{fd}}<>"/dev/udp/$host/$port" || {{ printf '@ 000   %s %s 0 6 no such host\n' "$host" "$port"; return; }}
  inode=$(readlink "/proc/$BASHPID/fd/$fd"); inode=${{inode//[!0-9]/}}
  # Where other sockets come and go meanwhile the kernel may leave lines out.
  for ((k = 0; k < 9 && own_port == 0; k++)); do
    while read -r _ at _ _ _ _ _ _ _ found _; do
      [ "$found" = "$inode" ] || continue
      own=$((16#${{at:6:2}})).$((16#${{at:4:2}})).$((16#${{at:2:2}})).$((16#${{at:0:2}})) own_port=$((16#${{at:9}}))
    done </proc/$BASHPID/net/udp
  done
  for ((k = 0; k < requests; k++)); do
    [ $k = 0 ] || sleep "$rate"
    began=${{EPOCHREALTIME/./}}
    printf 'who\n' >&"$fd" && timeout {_PATIENCE} dd bs=65535 count=1 <&"$fd"
    code=$? took=$((${{EPOCHREALTIME/./}} - began))
    if [ $code -ge 124 ]; then code=28; elif [ $code != 0 ]; then code=7; fi
    printf '\n@ 200 %s %s %s %s %d.%06d %s \n' "$own" "$own_port" "$host" "$port" \
      $((took / 1000000)) $((took % 1000000)) "$code"
  done 2>/dev/null
}}
call() {{
  local target=$2 line
  printf '%s < %s %s\n' "$1" "${{EPOCHREALTIME/./}}" "$target"
  if [ "$protocol" = ICMP ]; then
    ping -c "$requests" -i "$rate" -W 2 "$target" 2>&1
  elif [ "$protocol" = UDP ]; then
    datagrams "$target"
  else
    urls=(); for ((k = 0; k < requests; k++)); do urls+=("http://$target/"); done
    curl -s -N -m {_PATIENCE} --rate "$rate" -w '{_LINE}' "${{urls[@]}}" 2>&1
  fi | while IFS= read -r line; do
    case $line in
      Hostname:*|IP:*|RemoteAddr:*|@*|*icmp_seq=*|*nreachable*)
        printf '%s %s %s\n' "$1" "${{EPOCHREALTIME/./}}" "${{line%$'\r'}}" ;;
    esac
  done
  printf '%s > %s\n' "$1" "${{EPOCHREALTIME/./}}"
}}
begun=${{EPOCHREALTIME/./}}
for ((i = 0; count == 0 || i < count; i++)); do
  due=$((begun + i * pause - ${{EPOCHREALTIME/./}}))
  if [ $due -gt 0 ]; then sleep "$((due / 1000000)).$(printf %06d $((due % 1000000)))"; fi
  call $i "${{targets[$((i % ${{#targets[@]}}))]}}" &
  if [ $((i % 16)) = 15 ]; then while [ "$(jobs -rp | wc -l)" -gt {_MOST_OPEN} ]; do wait -n; done; fi
done
wait
"""


@dataclass
class CurlCall:
    """One connection as its client's lines tell it.

    Attributes:
        began, ended: microseconds.
        parts: of each request its end in microseconds, curl's own words, and what the server said.
    """

    began: int
    target: str
    ended: int = 0
    parts: list[tuple[int, str, dict[str, list[str]]]] = field(default_factory=list)


@dataclass(frozen=True)
class CurlAnswer:
    """One request on a connection, names of pods not yet resolved.

    Attributes:
        began, ended: nanoseconds.
        target: address and port.
        client_address: empty where no connection was made.
        host_name, addresses: what the server says of itself.
        server_saw: address and port of the server's peer.
        error: empty, or why there is no answer.
    """

    began: int
    ended: int
    target: str
    client_address: str
    client_port: int
    host_name: str
    addresses: Sequence[str]
    server_saw: str
    error: str
    reused: bool


def command(traffic: Traffic, targets: Sequence[tuple[str, int]], *, endless: bool = False) -> tuple[str, ...]:
    """Return the command that makes a client's calls; it needs bash 5, curl 7.84, ping, timeout and dd.

    Args:
        traffic: what to do.
        targets: addresses and ports, in turn; IPv4.
        endless: until it is ended.
    """
    aims = [address if traffic.protocol == "ICMP" else f"{address}:{port}" for address, port in targets]
    # curl wants to know how many in a stretch of time, the others seconds between two.
    rate = (
        f"{max(traffic.gap, 0.002):g}"
        if traffic.protocol != "TCP"
        else f"{max(1, round(60 / max(traffic.gap, 0.002)))}/m"
    )
    count = 0 if endless else traffic.count
    pause = round(1_000_000 / traffic.rate)
    return ("bash", "-c", SCRIPT, MARK, *map(str, (count, pause, traffic.requests, rate, traffic.protocol)), *aims)


def seconds(traffic: Traffic) -> float:
    """Return the longest time that a client's calls can take."""
    each = traffic.requests * (traffic.gap + _PATIENCE)
    return traffic.count / traffic.rate + each + 30


def calls(lines: Iterable[str]) -> dict[int, CurlCall]:
    """Read what a client's lines tell, by connection. Lines that are none of its are left out."""
    found: dict[int, CurlCall] = {}
    open_: dict[int, dict[str, list[str]]] = {}
    for line in lines:
        number, _, rest = line.strip().partition(" ")
        word, _, text = rest.partition(" ")
        if not number.isdecimal():
            continue
        key = int(number)
        if word == "<":
            began, _, target = text.partition(" ")
            found[key] = CurlCall(int(began), target)
        elif key in found and word == ">":
            found[key].ended = int(text)
        elif key in found and word.isdecimal():
            _add(found[key], open_.setdefault(key, {}), int(word), text)
    return found


def answers(lines: Iterable[str], traffic: Traffic) -> list[CurlAnswer]:
    """Return what a client's lines tell of its requests, by time."""
    of = _pings if traffic.protocol == "ICMP" else _requests
    return sorted((one for call in calls(lines).values() for one in of(call, traffic)), key=lambda one: one.began)


def _add(call: CurlCall, said: dict[str, list[str]], time: int, text: str) -> None:
    if text.startswith("@") or "icmp_seq=" in text or "nreachable" in text:
        # curl waits for its rate before its own words: what the server said tells when it answered.
        heard = said.pop(_HEARD, [])
        call.parts.append((int(heard[-1]) if heard else time, text, dict(said)))
        said.clear()
        return
    key, _, value = text.partition(":")
    said.setdefault(key, []).append(value.strip())
    said.setdefault(_HEARD, []).append(str(time))


def _requests(call: CurlCall, traffic: Traffic) -> Iterable[CurlAnswer]:
    made = None
    for number, (ended, text, said) in enumerate(call.parts[: traffic.requests]):
        # "@ 200 10.0.1.7 41234 10.1.0.9 80 0.0021 0 "; addresses are empty where no connection was made.
        code, rest = _words(text)
        address, port, took, exit_code, reason = rest
        made = made or ((address, port) if address else None)
        failed = "" if exit_code == "0" and code != "000" else (_WORDS.get(exit_code) or reason or f"curl {exit_code}")
        yield CurlAnswer(
            (ended - round(float(took or 0) * 1e6)) * 1000,
            ended * 1000,
            call.target,
            address or (made[0] if made else ""),
            int(port or 0),
            "".join(said.get("Hostname", [])[:1]),
            said.get("IP", []),
            "".join(said.get("RemoteAddr", [])[:1]),
            failed,
            reused=number > 0,
        )
        if failed:
            return


_CURL = re.compile(r"@ (\d{3}) (\S*) (\d*) (\S*) (\d*) ([\d.]*) (\d*) ?(.*)")


def _words(text: str) -> tuple[str, tuple[str, str, str, str, str]]:
    found = _CURL.match(text)
    if not found:
        return "000", ("", "", "", "", text)
    code, local, port, _remote, _remote_port, took, exit_code, reason = found.groups()
    return code, (local, port if local else "", took, exit_code, reason)


def _pings(call: CurlCall, traffic: Traffic) -> Iterable[CurlAnswer]:
    """Return one answer for each ping; those that were not answered come last."""
    came = [(time, text) for time, text, _ in call.parts if "time=" in text]
    for number in range(traffic.requests):
        if number < len(came):
            time, text = came[number]
            took = float(text.rpartition("time=")[2].split()[0]) * 1000
            yield _ping(call, time - round(took), time, call.target, "", number)
        else:
            yield _ping(call, call.began, call.ended or call.began, "", "no answer", number)


def _ping(call: CurlCall, began: int, ended: int, answered: str, error: str, number: int) -> CurlAnswer:
    addresses = [answered] if answered else []
    return CurlAnswer(
        began * 1000, ended * 1000, f"{call.target}:0", "", 0, "", addresses, "", error, reused=number > 0
    )


def resolve(
    answer: CurlAnswer, traffic: Traffic, client: tuple[str, str, str], pod: tuple[str, str, str, str]
) -> Request:
    """Return a request with its names.

    Args:
        answer: what the client saw.
        traffic: of which it is one.
        client: its name, cluster and address.
        pod: cluster, name, address and node of the pod that answered; empty texts for none.
    """
    name, cluster, address = client
    return Request(
        answer.began, answer.ended, name, cluster, answer.client_address or address, answer.client_port, answer.target,
        traffic.protocol, *pod, answer.server_saw, answer.error, answer.reused,
    )  # fmt: skip
