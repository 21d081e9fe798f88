"""``testbed compare``: two results side by side."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("first", metavar="DIR", type=click.Path(exists=True, file_okay=False))
@click.argument("second", metavar="DIR", type=click.Path(exists=True, file_okay=False))
def compare(first: str, second: str) -> int:
    """Compare two results folders. Needs no root and no network.

    \b
    Examples:
      testbed compare results/mtu/2026-11-20T10-00-00Z results/mtu/latest
    """
    from testbed.analysis.compare import compare as compare_results
    from testbed.views.console import open_console

    open_console().print(compare_results(Path(first), Path(second)))
    return 0
