"""Options and arguments that several commands share."""

from __future__ import annotations

import click

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

form_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Form of what is printed.",
)
