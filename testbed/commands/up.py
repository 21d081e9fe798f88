"""``testbed up``: build a cluster and keep it running."""

from __future__ import annotations

import click

from testbed.commands.options import datapath_option
from testbed.doctor.facts import DatapathWish


@click.command()
@click.argument("topology", metavar="TOPOLOGY")
@click.option(
    "-f",
    "--file",
    "manifests",
    metavar="MANIFEST",
    multiple=True,
    type=click.Path(),
    help="Pods to start; may be given several times.",
)
@click.option("--cli", "prompt", is_flag=True, help="Give the Mininet prompt; leaving it ends the cluster.")
@datapath_option
def up(topology: str, manifests: tuple[str, ...], prompt: bool, datapath: DatapathWish) -> int:
    """Build a cluster, say what is there, and keep it running until Ctrl-C.

    TOPOLOGY is a name with parameters, or a YAML file. Another terminal enters the cluster with `testbed exec`.

    \b
    Examples:
      testbed up leaf_spine,leaves=2,spines=2
      testbed up single_switch -f pods.yaml --cli
    """
    from testbed.running import keep_running
    from testbed.spec.load import load_topology_argument

    return keep_running(load_topology_argument(topology, manifests), datapath, prompt=prompt)
