"""``testbed plot``: the figures again, from stored results."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import results_argument


@click.command()
@results_argument
def plot(directory: str) -> int:
    """Draw the figures of a results folder again, as PNG and SVG. Needs no root and no network.

    \b
    Examples:
      testbed plot results/overlay_vs_routed/latest
    """
    from testbed.analysis import plots, summary

    folder = Path(directory)
    summary.summarise(folder)
    plots.draw(folder)
    click.echo(f"figures: {folder / 'plots'}")
    return 0
