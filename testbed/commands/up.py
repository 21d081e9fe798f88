"""``testbed up``: build a cluster and keep it running."""

from __future__ import annotations

from pathlib import Path

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
@click.option(
    "--images",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A catalogue of your own images, before the testbed's; its form is in docs/pods.md.",
)
@click.option("--cli", "prompt", is_flag=True, help="Give the Mininet prompt; leaving it ends the cluster.")
@click.option("--name", metavar="NAME", help="What the cluster is called  [default: the topology's or file's name]")
@click.option("--detach", is_flag=True, help="Return when the cluster is ready, and keep it running in the background.")
@set_option
@datapath_option
def up(
    topology: str,
    manifests: tuple[str, ...],
    images: Path | None,
    prompt: bool,
    name: str | None,
    detach: bool,
    overrides: tuple[str, ...],
    datapath: DatapathWish,
) -> int:
    """Build a cluster, say what is there, and keep it running until Ctrl-C or `testbed down`.

    TOPOLOGY is a name with parameters, or a YAML file, whose first mode and proxy it gets (overlay and openflow, if it
    says nothing). It prints KUBECONFIG=FILE: kubectl with this file drives the cluster. `testbed exec` enters its
    pods, nodes and outside hosts, and `testbed ps` lists what is running.

    \b
    Examples:
      testbed up leaf_spine,leaves=2,spines=2
      export "$(testbed up single_switch --detach)" && kubectl get nodes
      testbed up single_switch -f pods.yaml --name lab --cli
      testbed up single_switch -f pods.yaml --images images.yaml --set modes=[routed]
    """
    from testbed.network.registry import NAME_PATTERN, NameTaken
    from testbed.reporting import print_warnings
    from testbed.running import Wish, keep_running
    from testbed.spec.images import load_catalogue, use_catalogue
    from testbed.spec.load import load_topology_argument

    if prompt and detach:
        raise click.UsageError("--cli needs the terminal that --detach gives back; choose one")
    if name is not None and not NAME_PATTERN.fullmatch(name):
        message = "a name has at most 63 of a-z, 0-9, -, _ and ., and begins and ends with a letter or digit"
        raise click.BadParameter(f"{name!r}: {message}", param_hint="--name")
    use_catalogue(load_catalogue(images))
    checked = load_topology_argument(topology, manifests, overrides, living=True)
    print_warnings(checked.warnings)
    try:
        return keep_running(checked, Wish(name, datapath, prompt, detach))
    except NameTaken as error:
        raise click.UsageError(str(error)) from None
