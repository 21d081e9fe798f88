"""``testbed graph``: a picture of the topology."""

from __future__ import annotations

from pathlib import Path

import click

from testbed.commands.options import set_option

PICTURE_FORMS = (".svg", ".png", ".pdf")


@click.command()
@click.argument("file", metavar="FILE")
@click.option(
    "-o",
    "--output",
    metavar="PICTURE",
    type=click.Path(dir_okay=False),
    help="File to draw into: .svg, .png or .pdf  [default: NAME.svg]",
)
@set_option
def graph(file: str, output: str | None, overrides: tuple[str, ...]) -> int:
    """Draw the fabric, the nodes and their pods.

    FILE is an experiment, or a topology with parameters. Of several builds the first is drawn.

    \b
    Examples:
      testbed graph experiments/overlay_vs_routed.yaml
      testbed graph fat_tree,k=4 -o fat_tree.png
    """
    from testbed.network.graph import draw_graph
    from testbed.network.plan import make_plan
    from testbed.spec.load import load_topology_argument

    if output is not None and Path(output).suffix not in PICTURE_FORMS:
        raise click.BadParameter(f"{output} ends with none of {', '.join(PICTURE_FORMS)}", param_hint="-o")
    checked = load_topology_argument(file, (), overrides)
    name = checked.experiment.name
    plan = make_plan(checked, checked.experiment.builds[0])
    pods = {node_name: [pod.name for pod in pods] for node_name, pods in plan.state.pods_by_node.items()}
    picture = Path(output or f"{name}.svg")
    try:
        draw_graph(plan.fabric, pods, name).savefig(picture, dpi=150)
    except OSError as error:
        raise click.BadParameter(f"{picture}: {error.strerror or error}", param_hint="-o") from None
    click.echo(f"picture: {picture}")
    return 0
