"""``testbed graph``: a picture of the topology."""

from __future__ import annotations

from pathlib import Path

import click

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
def graph(file: str, output: str | None) -> int:
    """Draw the fabric, the nodes and their pods.

    FILE is an experiment, or a topology with parameters. Of several builds the first is drawn.

    \b
    Examples:
      testbed graph experiments/overlay_vs_routed.yaml
      testbed graph fat_tree,k=4 -o fat_tree.png
    """
    from testbed.network.plan import make_plan
    from testbed.spec.load import load_topology_argument
    from testbed.views.picture import draw

    picture = Path(output) if output is not None else None
    if picture is not None and picture.suffix not in PICTURE_FORMS:
        raise click.BadParameter(f"{picture.name} ends with none of {', '.join(PICTURE_FORMS)}", param_hint="-o")
    checked = load_topology_argument(file, ())
    picture = picture or Path(f"{checked.experiment.name}.svg")
    draw(make_plan(checked, checked.experiment.builds[0]), picture)
    click.echo(f"picture: {picture}")
    return 0
