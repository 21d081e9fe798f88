"""``testbed check``: is what was written right?"""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import set_option
from testbed.errors import InputError, Problem


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@set_option
def check(files: tuple[str, ...], overrides: tuple[str, ...]) -> int:
    """Check experiment files and the manifests they name. Needs no root and builds nothing.

    Every problem of every file is told at once, with file, line and field; then the status is 2. Of a file that is in
    order it says what is in it, how long measuring takes, and what will get a verdict.

    \b
    Examples:
      testbed check experiments/*.yaml
      testbed check experiments/smoke.yaml --set rounds=20
    """
    from testbed.measure.plan import estimate_seconds
    from testbed.reporting import print_warnings
    from testbed.spec.load import load_experiment
    from testbed.views.experiment import experiment_text

    problems: list[Problem] = []
    for file in files:
        try:
            checked = load_experiment(Path(file), overrides)
        except InputError as error:
            problems += error.problems
        else:
            seconds = estimate_seconds(checked.experiment) * len(checked.experiment.builds)
            click.echo(f"{file}: ok ({experiment_text(checked, seconds)})")
            print_warnings(checked.warnings)
    if problems:
        raise InputError(problems)
    return 0
