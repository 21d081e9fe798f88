"""``testbed up``: build a cluster and keep it running."""

from __future__ import annotations

import click

from testbed.commands.options import datapath_option, set_option
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
    help="Manifests of what to start; may be given several times.",
)
@click.option("--cli", "prompt", is_flag=True, help="Give the Mininet prompt; leaving it ends the cluster.")
@set_option
@datapath_option
def up(
    topology: str, manifests: tuple[str, ...], prompt: bool, overrides: tuple[str, ...], datapath: DatapathWish
) -> int:
    """Build a cluster, say what is there, and keep it running until Ctrl-C.

    TOPOLOGY is a name with parameters, or a YAML file, whose first mode and proxy it gets (overlay and openflow, if it
    says nothing). Another terminal enters the cluster with `testbed exec`.

    \b
    Examples:
      testbed up leaf_spine,leaves=2,spines=2
      testbed up single_switch -f pods.yaml --cli
      testbed up single_switch -f pods.yaml --set modes=[routed]
    """
    from testbed.reporting import print_warnings
    from testbed.running import keep_running
    from testbed.spec.load import load_topology_argument

    checked = load_topology_argument(topology, manifests, overrides)
    print_warnings(checked.warnings)
    return keep_running(checked, datapath, prompt=prompt)
