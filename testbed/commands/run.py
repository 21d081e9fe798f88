"""``testbed run``: measure an experiment."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import datapath_option, set_option
from testbed.doctor.facts import DatapathWish


@click.command()
@click.argument("experiment", metavar="EXPERIMENT", type=click.Path())
@click.option(
    "-o",
    "--output",
    metavar="DIR",
    type=click.Path(file_okay=False),
    help="Results folder  [default: results/EXPERIMENT/UTC-TIME]",
)
@set_option
@click.option("--smoke", is_flag=True, help="One short round of everything; nothing is judged.")
@click.option("--junit", metavar="FILE", type=click.Path(dir_okay=False), help="Also write the outcome as JUnit XML.")
@datapath_option
def run(
    experiment: str,
    output: str | None,
    overrides: tuple[str, ...],
    smoke: bool,
    junit: str | None,
    datapath: DatapathWish,
) -> int:
    """Build an experiment's clusters, measure them in all modes, and say what came out.

    Prints a table with a verdict per path and where the report is. Ends with status 1 when an expectation was not met
    or the result is inconclusive. Ctrl-C keeps the samples so far and marks them partial.

    \b
    Examples:
      testbed run experiments/overlay_vs_routed.yaml
      testbed run experiments/smoke.yaml --smoke --junit smoke.xml
      testbed run experiments/overlay_vs_routed.yaml --set rounds=20 --set seed=7 -o results/long
    """
    from testbed.experiment_run import Order, carry_out
    from testbed.reporting import print_outcome

    if junit is not None and not Path(junit).absolute().parent.is_dir():
        raise click.BadParameter(f"there is no folder {Path(junit).parent}", param_hint="--junit")
    outcome = carry_out(Order(Path(experiment), Path(output) if output else None, overrides, smoke, datapath))
    print_outcome(outcome.folder, outcome.summary)
    if junit is not None:
        from testbed.analysis import junit as report

        if outcome.summary is not None:
            report.write(outcome.summary, Path(junit))
        else:
            report.write_failure(Path(experiment).stem, f"no round was measured (status {outcome.exit_status})", junit)
    return outcome.exit_status
