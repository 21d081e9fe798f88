"""From stored samples to what a person reads: summary, figures, page, and the table on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from testbed.progress import Progress

STEPS = ("summary", "figures", "report")


def print_warnings(warnings: Iterable[str]) -> None:
    """What is no error in an experiment, and probably not meant; on standard error."""
    for warning in warnings:
        sys.stderr.write(f"warning: {warning}\n")


def analyse(folder: Path, progress: Progress) -> dict[str, Any]:
    """Compute the summary of a results folder, draw its figures and write its page; returns the summary.

    Raises InputError when the folder holds no readable results.
    """
    from testbed.analysis import plots, report, summary

    progress.start("analysis", len(STEPS))
    document = summary.summarise(folder)
    progress.advance("figures")
    plots.draw(folder)
    progress.advance("report")
    report.write(folder)
    progress.advance()
    progress.finish()
    return document


def print_table(summary: dict[str, Any]) -> None:
    """The result on standard output: figures with a verdict per path, and what was not met."""
    from testbed.analysis.table import render
    from testbed.views.console import open_console

    open_console().print(render(summary))


def print_outcome(folder: Path, summary: dict[str, Any] | None) -> None:
    """The result and where it is, on standard output; that it is not whole, on standard error."""
    if summary is None:
        sys.stderr.write(f"No round was measured; what there is: {folder}\n")
        return
    print_table(summary)
    if summary["status"] != "complete":
        sys.stderr.write("The run ended early: these are the samples so far, marked partial.\n")
    sys.stdout.write(f"report: {folder / 'report.html'}\n")
