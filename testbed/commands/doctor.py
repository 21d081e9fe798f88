"""``testbed doctor``: what this machine can do, or what is wrong with a running cluster."""

from __future__ import annotations

import json

import click

from testbed.commands.options import form_option, running_cluster
from testbed.errors import MachineError


@click.command()
@click.option(
    "--cluster",
    metavar="[NAME]",
    is_flag=False,
    flag_value="",
    help="Examine a running cluster, and not the machine  [default: that of $KUBECONFIG, else the only one].",
)
@form_option
def doctor(cluster: str | None, output: str) -> int:
    """Say what this machine can do, and for each thing missing the command that brings it.

    Nothing is changed: namespaces, devices and link properties are tried in throwaway namespaces. Ends with status 3
    when no experiment can run here.

    With --cluster it examines a cluster that `testbed up` keeps running: nodes, bridges and their flows, tunnels,
    routes, MTUs, Services and their endpoints, proxies, DNS, policies. One finding a line, with its evidence and what
    to do. It sends pings, a DNS question, and opens connections to Services. Ends with 0 when nothing is wrong, 1 when
    something is, 3 when the cluster cannot be entered.

    \b
    Examples:
      testbed doctor
      testbed doctor -o json
      testbed doctor --cluster
      testbed doctor --cluster single_switch
    """
    return _machine(output) if cluster is None else _cluster(cluster, output)


def _machine(output: str) -> int:
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


def _cluster(name: str, output: str) -> int:
    from testbed.checkup import examine
    from testbed.checkup.findings import as_data, as_text, faults
    from testbed.cluster.status import ApiError
    from testbed.errors import TestbedError
    from testbed.network.enter import call_in

    running = running_cluster(name or None)

    def inside(api_url: str) -> int:
        try:
            found = examine(api_url, running.name)
        except (TestbedError, ApiError, OSError) as error:
            click.echo(f"{running.name} cannot be examined: {error}", err=True)
            return MachineError.exit_status
        if output == "json":
            click.echo(json.dumps(as_data(found), indent=2))
        else:
            click.echo(as_text(found), nl=False)
        return 1 if faults(found) else 0

    return call_in(running, inside)
