"""``testbed plan``: what would be built, without building it."""

from __future__ import annotations

import json

import click

from testbed.commands.options import form_option, set_option


@click.command()
@click.argument("file", metavar="FILE")
@form_option
@set_option
def plan(file: str, output: str, overrides: tuple[str, ...]) -> int:
    """Print addresses, Services, routes and flow tables of every mode, without building anything.

    FILE is an experiment, or a topology with parameters. The flows are those that `ovs-ofctl dump-flows` shows on the
    running bridges, with table names for numbers.

    \b
    Examples:
      testbed plan experiments/overlay_vs_routed.yaml
      testbed plan experiments/overlay_vs_routed.yaml -o json
      testbed plan leaf_spine,leaves=2,spines=2
      testbed plan experiments/scale_nodes.yaml --set topology.parameters.spines=4
    """
    from testbed.network.plan import make_plan
    from testbed.spec.load import load_topology_argument
    from testbed.views.plan import FORMAT, plan_as_data, plan_as_text

    checked = load_topology_argument(file, (), overrides)
    experiment = checked.experiment
    plans = {build.name: make_plan(checked, build) for build in experiment.builds}
    if output == "json":
        builds = {name: plan_as_data(made, experiment.modes, experiment.proxies) for name, made in plans.items()}
        click.echo(json.dumps({"format": FORMAT, "name": experiment.name, "builds": builds}, indent=2))
    else:
        for name, made in plans.items():
            heading = f"=== build {name}\n\n" if len(plans) > 1 else ""
            click.echo(heading + plan_as_text(made, experiment.modes, experiment.proxies))
    return 0
