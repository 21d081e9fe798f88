"""What the figures are drawn from, read once for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.analysis import facts
from testbed.analysis.cells import ATTEMPT, NO_PAYLOAD, Series, by_side, cells, samples_with_validity, series_of
from testbed.analysis.contrasts import Plan
from testbed.analysis.load import Results, load
from testbed.analysis.plots.style import LOOKS, Look, join_words, other_look

Entry = dict[str, Any]


@dataclass(frozen=True)
class Line:
    """One thing that is compared with others: a series in an arm, and how it is drawn."""

    series: Series
    arm: str
    look: Look
    control: str


@dataclass(frozen=True)
class Panel:
    """What is compared with each other and so belongs into one picture; what its lines have in common is its title."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class PlotData:
    """A run's samples, the cells of its recorded attempts (:mod:`testbed.analysis.cells`) and its summary."""

    results: Results
    document: Entry
    samples: pd.DataFrame
    cells: pd.DataFrame

    @classmethod
    def read(cls, directory: str | Path) -> PlotData:
        """From a results folder that has been summarised."""
        results = load(directory)
        samples = samples_with_validity(results)
        table = cells(samples, results.experiment)
        # An attempt that was cut off has no time to be drawn at, and no statistics.
        recorded = pd.MultiIndex.from_frame(results.rounds[ATTEMPT])
        table = table[pd.MultiIndex.from_frame(table[ATTEMPT]).isin(recorded)]
        return cls(results, results.document, samples, table)

    @property
    def series(self) -> list[Series]:
        """Everything that was measured, in order."""
        return series_of(self.cells)

    @property
    def plan(self) -> Plan:
        """The arms, and what is compared with what."""
        return self.results.plan

    @cached_property
    def _measured(self) -> list[tuple[Series, str]]:
        return list(by_side(self.cells))

    def panels(self, probe: str, metric: str, *, controls: bool, ends_only: bool = True) -> list[Panel]:
        """The pictures of a metric: modes or proxies side by side on each path, or a path beside its baseline.

        ``controls``: with the arms that are executed again or at another MTU. ``ends_only``: of a payload sweep only
        the smallest and the largest payload.
        """
        sides = [side for side in self._measured if (side[0].probe, side[0].metric) == (probe, metric)]
        if ends_only:
            payloads = [series.payload_bytes for series, _ in sides]
            sides = [side for side in sides if side[0].payload_bytes in (min(payloads), max(payloads))]
        if not controls:
            sides = [side for side in sides if not self.plan.treatment(side[1]).control]
        groups: dict[tuple[Series, str], list[tuple[Series, str]]] = {}
        for series in dict.fromkeys(series for series, _ in sides):
            for arm in self.plan.order(arm for each, arm in sides if each == series):
                groups.setdefault(self._group(series, arm), []).append((series, arm))
        return [
            Panel(
                self._title(key, list(groups)),
                tuple(
                    Line(series, arm, self.look(series, arm), self.plan.treatment(arm).control) for series, arm in group
                ),
            )
            for key, group in groups.items()
        ]

    def drawn(self, panels: Iterable[Panel]) -> list[Look]:
        """The looks in some panels, each once, in the order of the legend."""
        found = {line.look: None for panel in panels for line in panel.lines}
        known = [look for look in LOOKS.values() if look in found]
        return known + [look for look in found if look not in known]

    @property
    def by(self) -> str:
        """What the run compares: mode, proxy or path."""
        return next((contrast.by for contrast in self.plan.contrasts), "mode")

    def look(self, series: Series, arm: str) -> Look:
        """How a series in an arm is drawn."""
        treatment = self.plan.treatment(arm)
        again = treatment.control == "aa"
        if self.by == "path":
            paths = list(self.results.experiment.get("paths") or {})
            base = self._base(series.path)
            names = [base, *(path for path in paths if path != base and self._base(path) == base)]
            return other_look(series.path, names.index(series.path), again=again)
        if self.by == "proxy":
            proxies = list(dict.fromkeys(each.proxy for each in self.plan.treatments))
            return other_look(treatment.proxy, proxies.index(treatment.proxy), again=again)
        control = f"{treatment.mode}_{'aa' if again else 'overlay_mtu'}" if treatment.control else treatment.mode
        return LOOKS[control] if control in LOOKS else other_look(arm, 0, again=again)

    def _base(self, path: str) -> str:
        """The path that a path is compared with; itself where it is compared with none."""
        found = (each.denominator_path for each in self.plan.contrasts if each.numerator_path == path)
        return next(found, path)

    def _group(self, series: Series, arm: str) -> tuple[Series, str]:
        """What the lines of one panel have in common: the series (with the baseline's path), and mode or proxy."""
        treatment = self.plan.treatment(arm)
        if self.by == "path":
            return replace(series, path=self._base(series.path)), f"{treatment.mode} {treatment.proxy}"
        return series, treatment.mode if self.by == "proxy" else treatment.proxy

    def _title(self, key: tuple[Series, str], among: list[tuple[Series, str]]) -> str:
        series, common = key
        columns = zip(*(other.split() for _, other in among), strict=True)
        varies = [word for word, words in zip(common.split(), columns, strict=True) if len(set(words)) > 1]
        return join_words(
            [
                self._place_text(series.path, {other.path for other, _ in among}),
                f"{series.payload_bytes} bytes"
                if len({other.payload_bytes for other, _ in among}) > 1 and series.payload_bytes != NO_PAYLOAD
                else "",
                series.build if len({other.build for other, _ in among}) > 1 else "",
                *varies,
            ]
        )

    def _place_text(self, path: str, paths: set[str]) -> str:
        if self.by != "path":
            return facts.path_text(self.results.experiment, path)
        return f"against {path}" if len(paths) > 1 else ""

    def arm(self, series: Series, arm: str) -> Entry | None:
        """The figures of an arm in the summary."""
        for entry in self.document["arms"]:
            if entry["arm"] == arm and self.series_of(entry) == series:
                return dict(entry)
        return None

    @staticmethod
    def series_of(entry: Entry) -> Series:
        """The series an entry of the summary is about."""
        payload = entry["payload_bytes"]
        return Series(
            entry["build"], entry["probe"], entry["metric"], NO_PAYLOAD if payload is None else payload, entry["path"]
        )

    def caption(self, *sentences: str) -> str:
        """The sentences, followed by the machine and the date."""
        machine = facts.machine(self.results.environment, self.document.get("started"))
        smoke = "Smoke run: too short to judge." if self.document["smoke"] else ""
        return " ".join(part for part in (*sentences, smoke, f"{machine}." if machine else "") if part)

    def counted(self, panels: Iterable[Panel]) -> str:
        """Rounds and samples behind the lines of some panels, per line."""
        wanted = {(line.series, line.arm) for panel in panels for line in panel.lines}
        rows = [entry for entry in self.document["arms"] if (self.series_of(entry), entry["arm"]) in wanted]
        return facts.counted(rows)
