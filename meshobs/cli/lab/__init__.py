"""`meshobs lab`: the two-cluster mesh of the walkthrough, up and down, and what one does with it."""

import click

from meshobs.cli.lab import build, faults, record, settings, status, traffic, up


@click.group("lab")
def command() -> None:
    """Stand a two-cluster mesh up, play with it, and take it down.

    \b
    meshobs lab up                                     west and east of the walkthrough
    meshobs lab traffic --from west --to svc/webpod    100 requests, and who answered
    meshobs lab annotate webpod affinity=local         on all clusters, or --cluster west
    meshobs collect --duration 5m                      finds the lab by itself
    meshobs lab down
    """  # noqa: D301 - \b is click's


for _command in (
    up.up, up.down, up.plan,
    status.env, status.status, status.routes, status.list_versions,
    traffic.traffic, traffic.background,
    settings.annotate, settings.scale,
    faults.fault, record.record, build.build,
):  # fmt: skip
    command.add_command(_command)
