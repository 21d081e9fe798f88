"""``testbed exec``: a command in a pod, a node or an outside host of a running cluster."""

from __future__ import annotations

import signal

import click


@click.command("exec")
@click.argument("endpoint", metavar="POD|node/NODE|ext/HOST")
@click.argument("command", metavar="-- CMD...", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option("-n", "--namespace", help="Namespace of the pod  [default: default]")
def exec_(endpoint: str, command: tuple[str, ...], namespace: str | None) -> int:
    """Run a command in a cluster that `testbed up` keeps running; ends with the command's own exit status.

    \b
    Examples:
      testbed exec web -- ip address
      testbed exec -n prod web -- sh -c 'cat /etc/hosts'
      testbed exec node/n1 -- ping -c 3 10.244.1.2
    """
    from testbed.network.enter import exec_in
    from testbed.network.registry import find
    from testbed.spec.endpoints import parse_endpoint
    from testbed.spec.nearest import suggestion

    if namespace is not None and "/" in endpoint:
        raise click.UsageError(f"-n {namespace} goes with the name of a pod, not with {endpoint}")
    try:
        wanted = parse_endpoint(endpoint if namespace is None else f"pod/{namespace}/{endpoint}")
    except ValueError as error:
        raise click.UsageError(f"{endpoint} is not {error}") from None
    try:
        running = find()
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    if str(wanted) not in running.places:
        raise click.UsageError(f"{running.name} has no {wanted}{suggestion(str(wanted), running.places)}")
    # The terminal's Ctrl-C is for the command. A handler of our own, unlike SIG_IGN, is not inherited by it.
    signal.signal(signal.SIGINT, lambda *_: None)
    return exec_in(running, wanted, command)
