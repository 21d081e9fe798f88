"""The result on a terminal: one row a comparison, the primary family first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from testbed.analysis.events import sentences
from testbed.analysis.facts import kernel_path
from testbed.analysis.words import (
    NONE,
    floor_text,
    place,
    ratio_text,
    rounds_text,
    side_value,
    sides,
    varying,
    what,
    with_unit,
)

Document = Mapping[str, Any]
# Columns a terminal needs for the verdicts beside the figures; a narrower one gets them below.
_VERDICT_BESIDE_FROM = 116


def plain_table() -> Table:
    """A table without lines, its columns two spaces apart."""
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)


class ResultTable:
    """A summary as a rich renderable: columns of plain text, emphasis where a terminal has it."""

    def __init__(self, summary: Document) -> None:
        self._summary = summary

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        headline = [
            entry for entry in self._summary["comparisons"] if entry["headline"] and entry["statistic"] == "median"
        ]
        narrow = options.max_width < _VERDICT_BESIDE_FROM
        if headline:
            yield self._table(headline, narrow)
        elif self._summary["arms"]:
            yield self._medians()
        if narrow:
            names = varying(headline)
            for entry in headline:
                yield Text(f"{what(entry)} {place(entry, names)}: {entry['verdict_text']}", style=_style(entry))
        yield from self._counts()
        yield from map(Text, sentences(self._summary["events"]))
        if beside := kernel_path(self._summary):
            yield Text(beside)
        status = "" if self._summary["status"] == "complete" else f"; run {self._summary['status']}"
        yield Text(rounds_text(self._summary) + status)
        for item in self._summary["expectations"]:
            yield _expectation(item)
        for reason in self._summary["outcome"]["reasons"]:
            if not reason.startswith("expectation not met"):
                yield Text(reason, style="yellow")

    def _table(self, entries: Sequence[Document], narrow: bool) -> Table:
        table = plain_table()
        table.add_column("path", no_wrap=True)
        for side in sides(entries):
            table.add_column(side, justify="right", no_wrap=True)
        table.add_column("ratio (95% interval)", no_wrap=True)
        table.add_column("noise", justify="right", no_wrap=True)
        if not narrow:
            table.add_column("verdict", no_wrap=True)
        names = varying(entries)
        for role, suffix in (("primary", ""), ("exploratory", " *")):
            of_role = [entry for entry in entries if entry["role"] == role]
            for heading in dict.fromkeys(map(what, of_role)):
                table.add_row(Text(heading + suffix, style="italic"))
                for entry in of_role:
                    if what(entry) == heading:
                        table.add_row(*self._cells(entry, names)[: len(table.columns)])
        if any(entry["role"] == "exploratory" for entry in entries):
            table.caption = Text("* exploratory: not corrected for the number of comparisons")
            table.caption_justify = "left"
        return table

    def _medians(self) -> Table:
        """What was measured where nothing is compared: medians as they are."""
        arms = self._summary["arms"]
        table = plain_table()
        for column in ("path", "arm", "median", "95% interval over rounds", "p99", "lost"):
            table.add_column(column, justify="left" if column in ("path", "arm") else "right", no_wrap=True)
        names = varying(arms)
        for heading in dict.fromkeys(what({**entry, "statistic": "median"}) for entry in arms):
            table.add_row(Text(heading, style="italic"))
            for entry in arms:
                if what({**entry, "statistic": "median"}) == heading:
                    low, high = entry["median_ci_low"], entry["median_ci_high"]
                    figures = [with_unit(entry["median"], entry["metric"])]
                    figures.append(
                        NONE if low is None else " to ".join(with_unit(end, entry["metric"]) for end in (low, high))
                    )
                    figures += [with_unit(entry["p99"], entry["metric"]), f"{entry['lost']:,}"]
                    table.add_row(*map(Text, (f"  {place(entry, names)}", entry["arm"], *figures)))
        return table

    def _counts(self) -> Iterator[Text]:
        """Requests that failed, came late or were lost, where there are any."""
        controls = {entry["arm"] for entry in self._summary["arms"] if entry["control"]}
        for item in self._summary["counts"]:
            if item["total"] and item["arm"] not in controls:
                yield Text(
                    f"{_where(item)}: {item['total']:,} requests "
                    f"{item['metric']} in {item['rounds']} rounds (median {item['median']:g} a round, most "
                    f"{item['maximum']:,})"
                )
        for item in self._summary["stale"]:
            if item["arm"] not in controls:
                yield Text(
                    f"{_where(item)}: removed pods answered after {item['answered_after']} of {item['events']} events "
                    f"(median {item['median_ms']:.3g} ms, longest {item['maximum_ms']:.3g} ms)"
                )

    def _cells(self, entry: Document, names: set[str]) -> list[Text]:
        return [
            Text(f"  {place(entry, names)}"),
            Text(with_unit(side_value(self._summary, entry, "denominator"), entry["metric"])),
            Text(with_unit(side_value(self._summary, entry, "numerator"), entry["metric"])),
            Text(ratio_text(entry)),
            Text(floor_text(entry["noise_floor"])),
            Text(entry["verdict_text"], style=_style(entry)),
        ]


def render(summary: Document) -> ResultTable:
    """The result table of a summary, for ``Console.print``."""
    return ResultTable(summary)


def _where(item: Document) -> str:
    build = "" if item["build"] == "main" else f", {item['build']}"
    return f"{item['probe']} {item['path']}{build}, {item['arm']}"


def _style(entry: Document) -> str:
    return "bold" if entry["verdict"] in ("higher", "lower") and entry["role"] == "primary" else ""


def _expectation(item: Document) -> Text:
    if item["met"] is None:
        return Text(f"expectation not judged: {item['text']}")
    if item["met"]:
        return Text(f"expectation met: {item['text']} ({item['detail']})", style="green")
    return Text(f"expectation NOT met: {item['text']} ({item['detail']})", style="bold red")
