"""Options and arguments that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from testbed.network.registry import Running

datapath_option = click.option(
    "--datapath",
    type=click.Choice(["auto", "kernel", "user"]),
    default="auto",
    show_default=True,
    help="Open vSwitch datapath: the kernel's where it is there (auto), or one of the two.",
)

results_argument = click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False))

set_option = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Override a field, for example rounds=20 or probes[0].duration_s=2; may be given several times.",
)

name_option = click.option(
    "--name", metavar="NAME", help="Which running cluster  [default: that of $KUBECONFIG, else the only one]"
)

form_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of what is printed.",
)


def running_cluster(name: str | None) -> Running:
    """The running cluster that is meant, ready to be entered. Raises UsageError naming those that are there."""
    from testbed.network.current_cluster import current_cluster

    try:
        running = current_cluster(name)
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    if not running.is_ready:
        raise click.UsageError(f"{running.name} is still being built")
    return running
