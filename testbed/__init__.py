"""A Mininet-based emulation testbed for the Kubernetes network model.

From Python, for notebooks::

    import testbed

    results = testbed.run("experiments/overlay_vs_routed.yaml")
    results = testbed.load("results/overlay_vs_routed/latest")
    results.samples  # every raw sample, a data frame

Both are imported when they are first used, so that the command line starts fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from testbed.api import load, run

__all__ = ["load", "run"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from testbed import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
