"""`meshobs lab traffic` and `background`: clients call, and tell who answered."""

import json
from dataclasses import asdict

import click

from meshobs.cli.terminal.output import TABLE_OR_JSON, format_option, print_table, remark
from meshobs.jobs import labs
from meshobs.lab import state
from meshobs.lab.traffic import Traffic


@click.command("traffic")
@click.option(
    "--from", "client", required=True, help="CLUSTER, CLUSTER/POD, CLUSTER/NAMESPACE/POD, host/NODE or outside."
)
@click.option(
    "--to",
    "target",
    required=True,
    help="svc/NAME, pod/NAME, pods/CLUSTER/APP (in turn), node/NODE:PORT, nodes/CLUSTER:PORT, balancer:PORT, IP:PORT.",
)
@click.option(
    "--protocol", type=click.Choice(["TCP", "UDP", "ICMP"], case_sensitive=False), default="TCP", show_default=True
)
@click.option("--count", type=click.IntRange(1), default=100, show_default=True, help="Connections.")
@click.option("--rate", type=float, default=50.0, show_default=True, help="Connections a second.")
@click.option(
    "--keep-alive",
    "requests",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Requests on each connection.",
)
@click.option("--background", is_flag=True, help="Go on without end, until `meshobs lab background 0`.")
@click.option("--gap", default=0.1, show_default=True, help="Seconds between requests on a connection.")
@format_option(forms=TABLE_OR_JSON)
def traffic(
    client: str,
    target: str,
    protocol: str,
    count: int,
    rate: float,
    requests: int,
    background: bool,
    gap: float,
    form: str,
) -> None:
    """Let a client call, and tell who answered: what `curl | sort | uniq -c` tells, and what the server saw."""
    lab, wanted = (
        labs.attach(state.require_running()),
        Traffic(client, target, protocol.upper(), count, rate, requests, gap),
    )
    if background:
        lab.endless(wanted)
        remark(f"{client} calls {target}, {wanted.rate:g} a second, until meshobs lab background 0")
        return
    done = lab.traffic([wanted])
    if form == "json":
        click.echo(json.dumps([asdict(one) for one in done]))
        return
    rows: dict[tuple[str, ...], int] = {}
    for one in done:
        saw = (
            "the client's address"
            if one.server_saw.startswith(f"{one.client_address}:")
            else one.server_saw.rpartition(":")[0]
        )
        key = (one.answered_cluster, one.answered_pod or one.error or "outside", one.answered_node, saw)
        rows[key] = rows.get(key, 0) + 1
    table = [[str(count), *key] for key, count in sorted(rows.items())]
    print_table(["answers", "cluster", "pod", "node", "server_saw"], table, {"answers"})


@click.command("background")
@click.argument("rate", type=click.FloatRange(0, 200))
def background(rate: float) -> None:
    """Let every cluster's client call its service, RATE requests a second; 0 ends it."""
    labs.attach(state.require_running()).background(rate)
