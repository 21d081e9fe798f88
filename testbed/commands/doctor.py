"""``testbed doctor``: what this machine can do."""

from __future__ import annotations

import json

import click

from testbed.commands.options import form_option
from testbed.errors import MachineError


@click.command()
@form_option
def doctor(output: str) -> int:
    """Say what this machine can do, and for each thing missing the command that brings it.

    Nothing is changed: namespaces, devices and link properties are tried in throwaway namespaces. Ends with status 3
    when no experiment can run here.

    \b
    Examples:
      testbed doctor
      testbed doctor -o json
    """
    from testbed.doctor.findings import blockers, report
    from testbed.doctor.render import render
    from testbed.doctor.trials import gather

    facts = gather()
    if output == "json":
        click.echo(json.dumps(report(facts), indent=2))
    else:
        from testbed.views.console import open_console

        open_console().print(render(facts))
    return MachineError.exit_status if blockers(facts) else 0
