"""``testbed check``: is what was written right?"""

from __future__ import annotations

from pathlib import Path

import click

from testbed.errors import InputError, Problem


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
def check(files: tuple[str, ...]) -> int:
    """Check experiment files and the manifests they name. Needs no root and builds nothing.

    Every problem of every file is told at once, with file, line and field; then the status is 2.

    \b
    Examples:
      testbed check experiments/*.yaml
    """
    from testbed.measure.plan import estimate_seconds
    from testbed.progress import duration_text
    from testbed.spec.load import load_experiment
    from testbed.views.words import counted

    problems: list[Problem] = []
    for file in files:
        try:
            checked = load_experiment(Path(file))
        except InputError as error:
            problems += error.problems
        else:
            experiment = checked.experiment
            parts = (
                experiment.topology.name,
                counted(len(experiment.builds), "build"),
                counted(len(checked.manifests), "pod"),
                counted(len(experiment.probes), "probe"),
                counted(experiment.rounds, "round"),
                f"about {duration_text(estimate_seconds(experiment) * len(experiment.builds))} of measuring",
            )
            click.echo(f"{file}: ok ({', '.join(parts)})")
            for warning in checked.warnings:
                click.echo(f"warning: {warning}", err=True)
    if problems:
        raise InputError(problems)
    return 0
