"""``testbed ps``: which clusters are running."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from testbed.commands.options import form_option

if TYPE_CHECKING:
    from testbed.network.registry import Running

_FORMAT = "testbed-ps/v1"


@click.command()
@form_option
def ps(output: str) -> int:
    """List this user's running clusters: mode, proxy, nodes, pods, how long they have been there, and their files.

    One in the background that ended unexpectedly is named with its log, until that is removed or the name is taken
    again.

    \b
    Examples:
      testbed ps
      testbed ps -o json
    """
    from testbed.network.registry import ended_clusters, running_clusters
    from testbed.progress import duration_text

    listed = [_described(running) for running in running_clusters()]
    ends = ended_clusters()
    if output == "json":
        told = [{"name": ended.name, "log": str(ended.log), "ended_s": round(ended.ended_s, 1)} for ended in ends]
        click.echo(json.dumps({"format": _FORMAT, "clusters": listed, "ended": told}, indent=2))
    else:
        click.echo(_table(listed), nl=False)
        for ended in ends:
            ago = duration_text(max(0.0, time.time() - ended.ended_s))
            click.echo(f"{ended.name} ended unexpectedly {ago} ago; its log says how: {ended.log}")
    return 0


def _described(running: Running) -> dict[str, Any]:
    from testbed.network.control import Refused, ask

    state: dict[str, Any] = {"mode": None, "proxy": None, "nodes": None, "pods": None, "page": None}
    status = "running" if running.is_ready else "being built"
    if running.is_ready:
        try:
            state = ask(running.control, "state")
        except (OSError, Refused) as error:
            status = f"does not answer: {error}"
    return {
        "name": running.name,
        "status": status,
        **state,
        "uptime_s": round(max(0.0, time.time() - running.started_s), 1),
        "kubeconfig": str(running.kubeconfig),
        "log": str(running.log) if running.detached else None,
        "pid": running.supervisor_pid,
    }


def _table(listed: list[dict[str, Any]]) -> str:
    from testbed.progress import duration_text
    from testbed.views.columns import aligned

    if not listed:
        return "no cluster is running\n"
    columns = ("name", "status", "mode", "proxy", "nodes", "pods")
    rows = (
        (
            *("-" if cluster[column] is None else cluster[column] for column in columns),
            duration_text(cluster["uptime_s"]),
            cluster["kubeconfig"],
            cluster["log"] or "-",
        )
        for cluster in listed
    )
    return aligned((*(column.upper() for column in columns), "UPTIME", "KUBECONFIG", "LOG"), rows)
