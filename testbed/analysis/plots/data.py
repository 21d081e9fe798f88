"""What the figures are drawn from, read once for all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.analysis import facts
from testbed.analysis.cells import ATTEMPT, NO_PAYLOAD, Series, cells, samples_with_validity, series_of
from testbed.analysis.load import Results, load
from testbed.analysis.plots.style import join_words

Entry = dict[str, Any]


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

    def shown(self, probe: str, metric: str) -> list[Series]:
        """The series of a metric that get a panel: of a payload sweep only the smallest and the largest payload."""
        found = [series for series in self.series if (series.probe, series.metric) == (probe, metric)]
        payloads = [series.payload_bytes for series in found]
        return [series for series in found if series.payload_bytes in (min(payloads), max(payloads))]

    def title(self, series: Series, among: Iterable[Series]) -> str:
        """What tells a series from the ``among`` it is shown with: path, and build or payload where these vary."""
        others = list(among)
        return join_words(
            [
                facts.path_text(self.results.experiment, series.path),
                f"{series.payload_bytes} bytes"
                if len({other.payload_bytes for other in others}) > 1 and series.payload_bytes != NO_PAYLOAD
                else "",
                series.build if len({other.build for other in others}) > 1 else "",
            ]
        )

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

    def counted(self, shown: Iterable[Series], arms: Iterable[str]) -> str:
        """Rounds and samples behind the shown series, per path and arm."""
        wanted = {(series, arm) for series in shown for arm in arms}
        rows = [entry for entry in self.document["arms"] if (self.series_of(entry), entry["arm"]) in wanted]
        return facts.counted(rows)
