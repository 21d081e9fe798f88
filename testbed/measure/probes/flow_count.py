"""``flow_count``: how many flows each node's bridge holds."""

from __future__ import annotations

from testbed.measure.probes.base import Context, Result


def run(context: Context) -> Result:
    """One value per bridge, in the order of the nodes' names."""
    counts = context.network.flow_counts()
    return Result((("flows", [float(counts[node]) for node in sorted(counts)]),))
