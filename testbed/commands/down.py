"""``testbed down``: end running clusters."""

from __future__ import annotations

import click

# Taking down a thousand pods takes seconds; this long only when something is stuck.
_END_S = 60.0


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--all", "every", is_flag=True, help="End all clusters of this user.")
def down(name: str | None, every: bool) -> int:
    """End a running cluster, in the background or in another terminal, and wait until it is gone.

    Without NAME it is the cluster of $KUBECONFIG, or the only one if that is not set. A cluster that does not end by
    itself within a minute is killed, which leaves nothing behind either; then the status is 1.

    \b
    Examples:
      testbed down
      testbed down lab
      testbed down --all
    """
    from testbed.network.current_cluster import current_cluster
    from testbed.network.registry import end, running_clusters

    if every and name is not None:
        raise click.UsageError(f"--all ends every cluster; leave out {name}")
    try:
        clusters = running_clusters() if every else [current_cluster(name, to_end=True)]
    except LookupError as error:
        raise click.UsageError(str(error.args[0])) from None
    status = 0
    for running in clusters:
        if end(running, _END_S):
            click.echo(f"{running.name} has ended")
        else:
            click.echo(f"{running.name} did not end within {_END_S:g} s and was killed", err=True)
            status = 1
    return status
