"""What the benchmarks print: figures with what they are compared with and what they have to reach."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.box import MARKDOWN
from rich.table import Table


@dataclass(frozen=True)
class Figure:
    """One line of the result.

    ``value`` and ``beside`` are in ``unit``; ``ratio`` is theirs the way ``target`` speaks of it. ``met`` is None where
    nothing has to be reached.
    """

    what: str
    value: float
    unit: str
    beside: float | None = None
    beside_what: str = ""
    ratio: float | None = None
    interval: tuple[float, float] | None = None
    target: str = ""
    met: bool | None = None


def at_most(
    limit: float, what: str, value: float, unit: str, beside: float | None = None, beside_what: str = ""
) -> Figure:
    """A figure whose value may not exceed ``limit``, which is in its unit."""
    met = value <= limit
    return Figure(what, value, unit, beside, beside_what, target=f"<= {limit:g} {unit}", met=met)


def table(title: str, figures: Iterable[Figure]) -> Table:
    """The figures as an aligned table that is Markdown too, so that it can go into a document as it is."""
    result = Table(title=title, title_justify="left", box=MARKDOWN)
    result.add_column("figure", no_wrap=True)
    for heading in ("value", "beside it", "ratio"):
        result.add_column(heading, justify="right", no_wrap=True)
    result.add_column("target", no_wrap=True)
    result.add_column("met")
    for figure in figures:
        result.add_row(
            figure.what,
            f"{figure.value:,.{_decimals(figure.value)}f} {figure.unit}",
            _beside(figure),
            _ratio(figure),
            figure.target,
            {True: "yes", False: "[bold red]NO[/]", None: ""}[figure.met],
        )
    return result


def _beside(figure: Figure) -> str:
    if figure.beside is None:
        return figure.beside_what
    return f"{figure.beside:,.{_decimals(figure.beside)}f} {figure.unit} {figure.beside_what}".rstrip()


def _ratio(figure: Figure) -> str:
    if figure.ratio is None:
        return ""
    text = f"{figure.ratio:.{_decimals(figure.ratio)}f}"
    if figure.interval is not None:
        text += f" [{figure.interval[0]:.3f}, {figure.interval[1]:.3f}]".replace("[", "\\[")
    return text


def _decimals(value: float) -> int:
    return 1 if abs(value) >= 10 else 3
