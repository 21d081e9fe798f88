"""The time against the payload, across the sizes where a packet stops fitting into one frame."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from testbed.analysis.cells import probe_label
from testbed.analysis.metrics import noun, quantity
from testbed.analysis.plots.data import Panel, PlotData
from testbed.analysis.plots.style import LOOKS, heading, line_handle, new_figure, panels, plain_number

# Bytes of IPv4 and UDP or ICMP header before the payload; a larger datagram is fragmented (RFC 791).
_DATAGRAM_HEADER_BYTES = 28
_DATAGRAM_PROBES = ("udp_rr", "icmp_rtt")


def payload_figures(data: PlotData) -> Iterator[tuple[str, Figure]]:
    """One figure per probe that was run with several payloads: a panel per build and path."""
    for probe, metric in dict.fromkeys((series.probe, series.metric) for series in data.series):
        sweep = [series for series in data.series if (series.probe, series.metric) == (probe, metric)]
        sizes = sorted({series.payload_bytes for series in sweep})
        if len(sizes) < 2:
            continue
        every = data.panels(probe, metric, controls=False, ends_only=False)
        shown = [panel for panel in every if panel.lines[0].series.payload_bytes == sizes[0]]
        edges = _edges(data, probe)
        columns = 1 if len(shown) == 1 else 2
        caption = data.caption(
            "Median of all samples of the valid rounds; bars: distribution-free 95% interval of the rounds' median.",
            "Vertical lines: the largest datagram that one packet can carry at the mode's MTU ("
            + ", ".join(f"{mode} {edge:,} bytes" for mode, edge in edges.items())
            + "); a larger one is fragmented."
            if edges
            else "",
            f"Per point: {data.counted(every)}.",
        )
        rows = -(-len(shown) // columns)
        handles = [line_handle(look) for look in data.drawn(shown)]
        title = heading(f"Median {noun(metric)} against payload", probe)
        figure = new_figure(4.6 * columns + (1.4 if columns == 1 else 0), 2.7 * rows, caption, title, handles)
        for axes, panel in zip(panels(figure, len(shown), columns), shown, strict=True):
            _panel(axes, data, panel, sizes, edges)
            axes.set_title(panel.title.replace(f" · {sizes[0]} bytes", ""))
            axes.set_ylabel(quantity(metric))
            axes.set_xlabel("payload (bytes)")
        yield f"payload_{probe}" + ("" if metric == "rtt_us" else f"_{metric}"), figure


def _edges(data: PlotData, probe: str) -> dict[str, int]:
    """Per mode the largest payload that is not fragmented, for probes that send datagrams."""
    kinds: Mapping[str, Any] = {
        probe_label(entry): entry.get("kind") for entry in data.results.experiment.get("probes") or ()
    }
    mtu = data.results.environment.get("mtu_bytes")
    if kinds.get(probe) not in _DATAGRAM_PROBES or not isinstance(mtu, Mapping):
        return {}
    modes = dict.fromkeys(treatment.mode for treatment in data.plan.treatments)
    return {mode: int(mtu[mode]) - _DATAGRAM_HEADER_BYTES for mode in modes if mode in mtu}


def _panel(axes: Axes, data: PlotData, panel: Panel, sizes: list[int], edges: Mapping[str, int]) -> None:
    for line in panel.lines:
        found = (data.arm(replace(line.series, payload_bytes=size), line.arm) for size in sizes)
        entries = [entry for entry in found if entry is not None]
        if not entries:
            continue
        look = line.look
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
        )
    for mode, edge in edges.items():
        if min(sizes) <= edge <= max(sizes):
            axes.axvline(edge, color=LOOKS[mode].color, linestyle=LOOKS[mode].line, linewidth=0.9, alpha=0.8)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.05)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(plain_number))
