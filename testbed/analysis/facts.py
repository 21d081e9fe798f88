"""What a caption says about a run: the machine, the software, the date, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_DATAPATHS = {"netdev": "userspace datapath (netdev)", "system": "kernel datapath (system)"}


def machine(environment: Mapping[str, Any], started: str | None) -> str:
    """Datapath, Open vSwitch, kernel and date in a line; what was not recorded is left out."""
    datapath = environment.get("datapath")
    parts = [
        f"Open vSwitch {environment['ovs_version']}" if environment.get("ovs_version") else "",
        _DATAPATHS.get(str(datapath), str(datapath)) if datapath else "",
        f"Linux {environment['kernel']}" if environment.get("kernel") else "",
        f"{environment['cores']} cores" if environment.get("cores") else "",
        started[:10] if started else "",
    ]
    return ", ".join(part for part in parts if part)


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
    return f"{_span([row['rounds'] for row in rows])} valid rounds, {_span([row['samples'] for row in rows])} samples"


def _span(values: Sequence[int]) -> str:
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
