"""Two runs side by side. Their ratios may be compared; their absolute times only if they ran on the same machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from testbed.analysis.load import Results, load
from testbed.analysis.summary import summary
from testbed.analysis.table import plain_table
from testbed.analysis.words import NONE, Side, place, ratio_text, side_value, sides, varying, what, with_unit

Entry = Mapping[str, Any]
_KEYS = (
    *("build", "probe", "metric", "payload_bytes", "path", "statistic"),
    *("by", "within", "numerator", "denominator", "denominator_path"),
)
# What makes absolute times of two runs incomparable, with how it is called in the warning.
FACTS = {
    "kernel": "kernel",
    "datapath": "datapath",
    "ovs": "Open vSwitch",
    "cpu_model": "CPU",
    "cores": "cores",
    "mtu_bytes": "MTU of the pods (bytes)",
}


@dataclass(frozen=True)
class Row:
    """One comparison in both runs; None where a run did not measure it."""

    key: Entry
    first: Entry | None
    second: Entry | None

    @property
    def intervals_overlap(self) -> bool | None:
        """Whether the two ratios' intervals overlap; None where one is missing."""
        if self.first is None or self.second is None:
            return None
        bounds = [entry[f"ratio_ci_{end}"] for entry in (self.first, self.second) for end in ("low", "high")]
        if None in bounds:
            return None
        return bool(bounds[0] <= bounds[3] and bounds[2] <= bounds[1])


@dataclass(frozen=True)
class RunComparison:
    """Two runs: rows for a table, and warnings on what else differs between them. A rich renderable."""

    names: tuple[str, str]
    documents: tuple[Entry, Entry]
    rows: tuple[Row, ...]
    warnings: tuple[str, ...]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for letter, name in zip("AB", self.names, strict=True):
            yield Text(f"{letter}: {name}")
        for warning in self.warnings:
            yield Text(f"warning: {warning}", style="yellow")
        table = plain_table()
        below, above = sides([row.key for row in self.rows])
        figures = [f"{name} {letter}" for name in (below, above, "ratio") for letter in "AB"]
        for column in ("probe", "path", *figures, ""):
            table.add_column(column, justify="right" if column[-2:] in (" A", " B") else "left", no_wrap=True)
        names = varying([row.key for row in self.rows])
        for row in self.rows:
            table.add_row(*(Text(cell) for cell in self._cells(row, names)))
        yield table

    def _cells(self, row: Row, names: set[str]) -> list[str]:
        entries = (row.first, row.second)
        cells = [what(row.key), place(row.key, names)]
        both: tuple[Side, Side] = ("denominator", "numerator")
        for side in both:
            for document, entry in zip(self.documents, entries, strict=True):
                value = None if entry is None else side_value(document, entry, side)
                cells.append(with_unit(value, row.key["metric"]))
        cells += [NONE if entry is None else ratio_text(entry) for entry in entries]
        overlap = row.intervals_overlap
        cells.append("" if overlap is None else "intervals overlap" if overlap else "intervals apart")
        return cells


def compare(first: str | Path, second: str | Path) -> RunComparison:
    """Two results folders side by side, from their samples: medians of both sides and their ratio, per probe and path.

    Raises :class:`testbed.errors.InputError` when either is no readable results folder.
    """
    results = (load(first), load(second))
    documents = (summary(results[0]), summary(results[1]))
    return RunComparison(
        names=(_name(results[0]), _name(results[1])),
        documents=documents,
        rows=tuple(_rows(documents[0]["comparisons"], documents[1]["comparisons"])),
        warnings=tuple(_warnings(results[0], results[1])),
    )


def _name(results: Results) -> str:
    return f"{results.name}, {results.directory.resolve().name}, started {results.run.get('started')}"


def _rows(first: Sequence[Entry], second: Sequence[Entry]) -> list[Row]:
    tables = [
        {
            tuple(entry[key] for key in _KEYS): entry
            for entry in entries
            if entry["headline"] and entry["statistic"] == "median"
        }
        for entries in (first, second)
    ]
    keys = dict.fromkeys([*tables[0], *tables[1]])
    return [Row(dict(zip(_KEYS, key, strict=True)), tables[0].get(key), tables[1].get(key)) for key in keys]


def _warnings(first: Results, second: Results) -> list[str]:
    found = []
    if first.name != second.name:
        found.append(f"the experiments differ: {first.name} and {second.name}")
    for key, label in FACTS.items():
        values = (first.environment.get(key), second.environment.get(key))
        if values[0] != values[1]:
            found.append(f"{label} differs: {values[0]} and {values[1]}; absolute times are not comparable")
    for letter, results in zip("AB", (first, second), strict=True):
        if results.smoke:
            found.append(f"{letter} is a smoke run, too short to judge")
        elif results.run.get("status") != "complete":
            found.append(f"{letter} is not complete: {results.run.get('status')}")
    return found
