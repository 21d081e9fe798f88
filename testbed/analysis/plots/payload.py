"""The time against the payload, across the sizes where a packet stops fitting into one frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from testbed.analysis import facts
from testbed.analysis.cells import Series, probe_label
from testbed.analysis.metrics import noun, quantity
from testbed.analysis.plots.data import PlotData
from testbed.analysis.plots.style import LOOKS, headline, join_words, new_figure, panels

_ARMS = ("overlay", "routed")
# Bytes of IPv4 and UDP or ICMP header before the payload; a larger datagram is fragmented (RFC 791).
_DATAGRAM_HEADER_BYTES = 28
_DATAGRAM_PROBES = ("udp_rr", "icmp_rtt")


def payload_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per probe that was run with several payloads: a panel per build and path."""
    for probe, metric in dict.fromkeys((series.probe, series.metric) for series in data.series):
        sweep = [series for series in data.series if (series.probe, series.metric) == (probe, metric)]
        if len({series.payload_bytes for series in sweep}) < 2:
            continue
        places = list(dict.fromkeys((series.build, series.path) for series in sweep))
        edges = _edges(data, probe)
        columns = 1 if len(places) == 1 else 2
        caption = data.caption(
            "Median of all samples of the valid rounds; bars: distribution-free 95% interval of the rounds' median.",
            "Vertical lines: the largest datagram that one packet can carry at the mode's MTU ("
            + ", ".join(f"{mode} {edge:,} bytes" for mode, edge in edges.items())
            + "); a larger one is fragmented."
            if edges
            else "",
            f"Per point: {data.counted(sweep, _ARMS)}.",
        )
        rows = -(-len(places) // columns)
        figure = new_figure(4.6 * columns + (1.4 if columns == 1 else 0), 2.7 * rows + 0.6, caption)
        headline(figure, f"Median {noun(metric)} against payload", probe)
        grid = panels(figure, len(places), columns)
        for axes, (build, path) in zip(grid, places, strict=True):
            _panel(axes, data, [series for series in sweep if (series.build, series.path) == (build, path)], edges)
            name = build if len({place[0] for place in places}) > 1 else ""
            axes.set_title(join_words([facts.path_text(data.results.experiment, path), name]))
            axes.set_ylabel(quantity(metric))
            axes.set_xlabel("payload (bytes)")
        figure.legend(*grid[0].get_legend_handles_labels(), loc="outside upper right", ncols=4)
        yield f"payload_{probe}" + ("" if metric == "rtt_us" else f"_{metric}"), figure


def _edges(data: PlotData, probe: str) -> dict[str, int]:
    """Per mode the largest payload that is not fragmented, for probes that send datagrams."""
    kinds: Mapping[str, Any] = {
        probe_label(entry): entry.get("kind") for entry in data.results.experiment.get("probes") or ()
    }
    mtu = data.results.environment.get("mtu_bytes")
    if kinds.get(probe) not in _DATAGRAM_PROBES or not isinstance(mtu, Mapping):
        return {}
    return {mode: int(mtu[mode]) - _DATAGRAM_HEADER_BYTES for mode in _ARMS if mode in mtu}


def _panel(axes: Axes, data: PlotData, sweep: list[Series], edges: Mapping[str, int]) -> None:
    sizes = [series.payload_bytes for series in sweep]
    for arm in _ARMS:
        entries = [entry for series in sweep if (entry := data.arm(series, arm)) is not None]
        if not entries:
            continue
        look = LOOKS[arm]
        low = [entry["median"] - (entry["median_ci_low"] or entry["median"]) for entry in entries]
        high = [(entry["median_ci_high"] or entry["median"]) - entry["median"] for entry in entries]
        axes.errorbar(
            [entry["payload_bytes"] for entry in entries],
            [entry["median"] for entry in entries],
            yerr=[low, high],
            color=look.color,
            linestyle=look.line,
            marker=look.marker,
            capsize=2.5,
            label=look.label,
        )
    for mode, edge in edges.items():
        if min(sizes) <= edge <= max(sizes):
            axes.axvline(edge, color=LOOKS[mode].color, linestyle=LOOKS[mode].line, linewidth=0.9, alpha=0.8)
