"""Requests over time while the cluster changes: what happened when, and what the clients saw of it."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from testbed.analysis.cells import ATTEMPT
from testbed.analysis.events import is_good, stale
from testbed.analysis.plots.data import PlotData
from testbed.analysis.plots.style import BAD, FAINT, NOISE, heading, new_figure, panels, plain_number

_GOOD, _STALE = "#0072B2", "#E69F00"
_PLACE = ["build", "path", "probe"]


def churn_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per build, path and probe with events: a panel per arm, every request of one round."""
    events = data.results.events
    if events.empty:
        return
    for (build, path, probe), _ in events.groupby(_PLACE, sort=False):
        cells = _cells(data, str(build), str(path), str(probe))
        if not cells:
            continue
        number = next(iter(cells.values()))[0]["round"].iloc[0]
        limit = max(float((rows["over_ms"] - rows["due_ms"]).max()) for rows, _ in cells.values())
        caption = data.caption(
            f"Every request of {probe} on {path} in round {number}, by when it was due; its time counts from then. "
            "Vertical lines: an event's write to the API; shaded: until everything that balances connections had "
            "confirmed what follows from it. Crosses, at the upper edge: requests without a good answer. Diamonds: "
            "answers of pods that an event had removed, to requests due after it.",
        )
        handles = [
            Line2D([], [], linestyle="none", marker=".", color=_GOOD, label="answered"),
            Line2D([], [], linestyle="none", marker="D", color=_STALE, label="answered by a removed pod"),
            Line2D([], [], linestyle="none", marker="x", color=BAD, label="failed or lost"),
            Patch(color=NOISE, label="event until confirmed"),
        ]
        title = heading(
            f"Requests while pods come and go: {path}" + ("" if build == "main" else f", {build}"), str(probe)
        )
        figure = new_figure(8.6, 2.0 * len(cells), caption, title, handles)
        grid = panels(figure, len(cells), 1, sharex=True, sharey=True)
        for axes, (arm, (rows, happenings)) in zip(grid, cells.items(), strict=True):
            _panel(axes, rows, happenings, limit)
            axes.set_title(arm)
        grid[-1].set_xlabel("seconds since measuring began")
        suffix = "" if build == "main" else f"_{build}"
        yield f"churn_{probe}_{path}{suffix}", figure


_Cell = tuple[pd.DataFrame, pd.DataFrame]


def _cells(data: PlotData, build: str, path: str, probe: str) -> dict[str, _Cell]:
    """Per arm the requests and events of the first round that is valid; of the first of all when none is."""
    rounds = data.results.rounds
    rounds = rounds[rounds["build"] == build]
    chosen = rounds[rounds["valid"] == True] if (rounds["valid"] == True).any() else rounds  # noqa: E712
    if chosen.empty:
        return {}
    key = chosen.iloc[0][ATTEMPT].to_dict() | {"path": path, "probe": probe}
    requests, events = (_where(frame, key) for frame in (data.results.requests, data.results.events))
    found = {}
    for arm in data.plan.own_arms:
        rows, happenings = (frame[frame["arm"] == arm] for frame in (requests, events))
        if len(rows) and len(happenings):
            found[arm] = (rows, happenings)
    return found


def _where(frame: pd.DataFrame, key: dict[str, object]) -> pd.DataFrame:
    for column, value in key.items():
        frame = frame[frame[column] == value]
    return frame


def _panel(axes: Axes, rows: pd.DataFrame, happenings: pd.DataFrame, limit_ms: float) -> None:
    good = is_good(rows)
    took_ms = rows["over_ms"] - rows["due_ms"]
    removed = pd.concat([stale(rows, happenings, place) for place in range(len(happenings))], axis=1).any(axis=1)
    axes.plot(rows.loc[good & ~removed, "due_ms"] / 1e3, took_ms[good & ~removed], ".", color=_GOOD, markersize=2.5)
    axes.plot(rows.loc[removed, "due_ms"] / 1e3, took_ms[removed], "D", color=_STALE, markersize=4)
    top_ms = limit_ms * 1.6
    if not good.all():  # an empty line that may leave its axes would upset the layout
        bad_s = rows.loc[~good, "due_ms"] / 1e3
        axes.plot(bad_s, [top_ms] * len(bad_s), "x", color=BAD, markersize=5, clip_on=False)
    for _, event in happenings.iterrows():
        begin, end = event["written_ms"] / 1e3, event["confirmed_ms"] / 1e3
        axes.axvspan(begin, end, color=NOISE, linewidth=0, zorder=0)
        axes.axvline(begin, color=FAINT, linewidth=1.0)
        text = f"{event['what']} ({event['confirmed_ms'] - event['written_ms']:,.0f} ms)"
        axes.annotate(
            text, (begin, 0.0), (3, 3), xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=7.5
        )
    axes.set_yscale("log")
    axes.set_ylim(float(took_ms.min()) * 0.3, top_ms)
    axes.yaxis.set_major_locator(LogLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("request (ms), log")
    text = f"{int((~good).sum())} of {len(rows):,} failed or lost"
    axes.annotate(
        text, (1.0, 1.0), (0, 2), xycoords="axes fraction", textcoords="offset points", ha="right", fontsize=8
    )
