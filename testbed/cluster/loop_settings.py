"""What is said to the loops of a cluster."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LoopSettings:
    """``node_grace_s``: a node whose kubelet was silent for so long is not ready, as in Kubernetes; sooner if its last
    Lease was for less. ``eviction_after_s``: so long pods stay on such a node that say nothing about it themselves
    (Kubernetes: 300 s, but an experiment does not wait for minutes). ``namespace_delay_s``: so long after its deletion
    a Namespace is emptied (Kubernetes: 5 s). ``api_service``: whether the API has a
    Service."""

    node_grace_s: float = 40.0
    eviction_after_s: float = 5.0
    namespace_delay_s: float = 2.0
    api_service: bool = False
