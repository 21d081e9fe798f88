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
from testbed.analysis.events import is_good, owners, stale
from testbed.analysis.plots.data import PlotData
from testbed.analysis.plots.style import BAD, FAINT, NOISE, heading, new_figure, panels, plain_number

_GOOD, _STALE = "#0072B2", "#E69F00"
_PLACE = ["build", "path", "probe"]
# About what a panel and a character of its labels take, to keep these apart.
_PANEL_INCHES, _PANEL_WIDTH_INCHES = 1.4, 7.6
_LABEL_INCHES, _LABEL_INCHES_PER_CHARACTER = 0.13, 0.056


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
            "Vertical lines: an event; shaded: until all that follows from it was done and confirmed. Beside each what "
            "it cost: requests without a good answer that are put down to it (crosses, at the upper edge). Diamonds: "
            "answers of pods that an event had removed, to requests due after it.",
        )
        handles = [
            Line2D([], [], linestyle="none", marker=".", color=_GOOD, label="answered"),
            Line2D([], [], linestyle="none", marker="D", color=_STALE, label="answered by a removed pod"),
            Line2D([], [], linestyle="none", marker="x", color=BAD, label="failed or lost"),
            Patch(color=NOISE, label="event until confirmed"),
        ]
        title = heading(
            f"Requests while the cluster changes: {path}" + ("" if build == "main" else f", {build}"), str(probe)
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
    levels = _label_events(axes, rows, happenings)
    axes.set_yscale("log")
    # The labels have room of their own, below all requests.
    share = (levels * _LABEL_INCHES + 0.08) / _PANEL_INCHES
    lowest_ms = float(took_ms.min()) * 0.8
    axes.set_ylim(top_ms * (lowest_ms / top_ms) ** (1 / (1 - share)), top_ms)
    axes.yaxis.set_major_locator(LogLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylabel("request (ms), log")
    text = f"{int((~good).sum())} of {len(rows):,} failed or lost"
    axes.annotate(
        text, (1.0, 1.0), (0, 2), xycoords="axes fraction", textcoords="offset points", ha="right", fontsize=8
    )


def _label_events(axes: Axes, rows: pd.DataFrame, happenings: pd.DataFrame) -> int:
    """Mark every event, and say what it was and cost; returns how many lines of labels that took.

    A label is to the right of its event or, where the axis ends, to its left; one that would meet another is above it.
    """
    happenings = happenings.sort_values("written_ms")
    owner, good = owners(rows, happenings), is_good(rows)
    first_s, last_s = axes.get_xlim()
    character_s = (last_s - first_s) * _LABEL_INCHES_PER_CHARACTER / _PANEL_WIDTH_INCHES
    ends: list[list[tuple[float, float]]] = []
    for place, (_, event) in enumerate(happenings.iterrows()):
        begin, end = event["written_ms"] / 1e3, event["confirmed_ms"] / 1e3
        axes.axvspan(begin, end, color=NOISE, alpha=0.6, linewidth=0, zorder=0)
        axes.axvline(begin, color=FAINT, linewidth=1.0)
        lost = int(((owner == place) & ~good).sum())
        text = f"{event['what']}: over after {end - begin:.2g} s, {lost or 'none'} lost"
        width_s = character_s * (len(text) + 2)
        left = begin + width_s > last_s
        span = (begin - width_s, begin) if left else (begin, begin + width_s)
        level = next(
            (n for n, taken in enumerate(ends) if all(span[1] < a or b < span[0] for a, b in taken)), len(ends)
        )
        if level == len(ends):
            ends.append([])
        ends[level].append(span)
        axes.annotate(
            text,
            (begin, 0.0),
            (-3 if left else 3, 3 + level * _LABEL_INCHES * 72),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=7.5,
        )
    return len(ends)
