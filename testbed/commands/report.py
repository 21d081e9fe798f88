"""``testbed report``: the summary, the figures and the page again, from stored results."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import results_argument


@click.command()
@results_argument
def report(directory: str) -> int:
    """Analyse a results folder again: table, figures and report.html. Needs no root and no network.

    \b
    Examples:
      testbed report results/overlay_vs_routed/latest
    """
    from testbed.progress import open_progress
    from testbed.reporting import analyse, print_table

    folder = Path(directory)
    print_table(analyse(folder, open_progress()))
    click.echo(f"report: {folder / 'report.html'}")
    return 0
