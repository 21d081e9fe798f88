"""``testbed exec``: a command in a pod, a node or an outside host of a running cluster."""

from __future__ import annotations

import os
import signal

import click

from testbed.commands.options import name_option, running_cluster


@click.command("exec")
@click.argument("endpoint", metavar="POD|node/NODE|ext/HOST")
@click.argument("command", metavar="-- CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
@name_option
@click.option("-n", "--namespace", help="Namespace of the pod  [default: default]")
@click.option("-c", "--container", help="Container of the pod  [default: its first one]")
def exec_(
    endpoint: str, command: tuple[str, ...], name: str | None, namespace: str | None, container: str | None
) -> int:
    """Run a command in a cluster that `testbed up` keeps running; ends with the command's own exit status.

    Standard input reaches the command unchanged, and the terminal is its own if there is one.

    \b
    Examples:
      testbed exec web -- ip address
      testbed exec -n prod web -c sidecar -- sh -c 'cat /etc/hosts'
      testbed exec --name lab node/n1 -- ping -c 3 10.244.1.2
    """
    from testbed.network.control import Refused, ask
    from testbed.network.enter import exec_in
    from testbed.spec.endpoints import parse_endpoint

    if namespace is not None and "/" in endpoint:
        raise click.UsageError(f"-n {namespace} goes with the name of a pod, not with {endpoint}")
    try:
        wanted = parse_endpoint(endpoint if namespace is None else f"pod/{namespace}/{endpoint}")
    except ValueError as error:
        raise click.UsageError(f"{endpoint} is not {error}") from None
    running = running_cluster(name)
    try:
        answer = ask(running.control, "entrance", endpoint=str(wanted), container=container)
    except Refused as error:
        raise click.UsageError(f"{running.name}: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{running.name} does not answer: {error}") from None
    # The terminal's Ctrl-C is for the command. A handler of our own, unlike SIG_IGN, is not inherited by it.
    signal.signal(signal.SIGINT, lambda *_: None)
    environment = dict(os.environ)
    if answer["environment"] is not None:
        terminal = {name: environment[name] for name in ("TERM",) if name in environment}
        environment = {**terminal, **answer["environment"]}
    return exec_in(running, answer["argv"], command, environment)
