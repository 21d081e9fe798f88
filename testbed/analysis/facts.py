"""What a caption says about a run: the machine, the software, the date, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from testbed.analysis.metrics import figures_text

_DATAPATHS = {"netdev": "userspace datapath (netdev)", "system": "kernel datapath (system)"}


def machine(environment: Mapping[str, Any], started: str | None) -> str:
    """Datapath, Open vSwitch, kernel and date in a line; what was not recorded is left out."""
    datapath = environment.get("datapath")
    parts = [
        f"Open vSwitch {environment['ovs']}" if environment.get("ovs") else "",
        _DATAPATHS.get(str(datapath), str(datapath)) if datapath else "",
        f"Linux {environment['kernel']}" if environment.get("kernel") else "",
        f"{environment['cores']} cores" if environment.get("cores") else "",
        started[:10] if started else "",
    ]
    return ", ".join(part for part in parts if part)


def kernel_path(document: Mapping[str, Any]) -> str:
    """What the kernel's own overlay costs on the same machine, to print beside the result; "" where not measured.

    ``document`` is the summary. Every sleeping hop through a userspace Open vSwitch adds the same time to both modes,
    so the ratio with it is closer to 1 than this one.
    """
    path = document.get("kernel_path")
    if not path:
        return ""
    low, high = path["ratio_range"]
    text = (
        "Beside it, the kernel's own path on this machine, without Open vSwitch: "
        f"routed {figures_text(path['routed_us'])} µs, overlay {figures_text(path['overlay_us'])} µs, "
        f"ratio {path['ratio']:.2f} (the median of {path['turns']} turns; smallest {low:.2f}, largest {high:.2f})"
    )
    floor = document.get("tool_floor_us")
    return text + (f"; the client's own floor is {figures_text(floor)} µs." if floor else ".")


def path_text(experiment: Mapping[str, Any], path: str) -> str:
    """A path with its ends: ``cross_leaf (a1 → c1)``."""
    ends = (experiment.get("paths") or {}).get(path)
    if not isinstance(ends, Mapping):
        return path
    source, target = ends.get("from", ends.get("source")), ends.get("to", ends.get("target"))
    return f"{path} ({source} → {target})"


def counted(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many rounds and samples stand behind a figure: ``12 valid rounds, 24,000 samples a mode and path``."""
    if not rows:
        return "no valid round"
    return f"{_span(rows, 'rounds', 'valid round')}, {_span(rows, 'samples', 'sample')}"


def _span(rows: Sequence[Mapping[str, Any]], key: str, thing: str) -> str:
    low, high = min(row[key] for row in rows), max(row[key] for row in rows)
    number = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return f"{number} {thing}{'' if high == 1 else 's'}"
