"""Times of the loops that differ from Kubernetes', because an experiment does not wait for minutes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoopSettings:
    """``node_grace_s``: a node whose kubelet was silent for so long is not ready (Kubernetes: 40 to 50 s).
    ``eviction_after_s``: so long pods stay on such a node that say nothing about it themselves (Kubernetes: 300 s)."""

    node_grace_s: float = 4.0
    eviction_after_s: float = 5.0
