"""What a container may use of processors and memory: as its spec says it, and as the files of a cgroup do. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from testbed.cluster.objects import JsonObject
from testbed.cluster.quantities import quantity
from testbed.network.pods.cgroup_trees import CONTROLLERS, Tree
from testbed.network.pods.environment import NotConfigured

_PERIOD_US = 100_000  # of the limit of processor time, as a kubelet sets it
_LEAST_QUOTA_US, _LEAST_SHARES = 1_000, 2
_SHARES = 1_024  # of one processor
# More than any machine has, and not too much for the kernel.
_MOST_PROCESSORS, _MOST_BYTES = Decimal(10_000), Decimal(1 << 60)


@dataclass(frozen=True)
class Limits:
    """A container's ``resources`` in processors and bytes; None: not said."""

    cpu: float | None = None
    cpu_request: float | None = None
    memory_bytes: int | None = None


def limits_of(container: JsonObject) -> Limits:
    """What a container's spec says. Raises NotConfigured for what is no quantity."""
    resources = container.get("resources") or {}
    limits = resources.get("limits") or {}
    requests = {**limits, **(resources.get("requests") or {})}
    try:
        cpu, memory = (quantity(str(limits.get(name) or 0)) for name in CONTROLLERS)
        request = quantity(str(requests["cpu"])) if "cpu" in requests else None
    except ValueError as error:
        raise NotConfigured(str(error)) from None
    return Limits(
        float(min(cpu, _MOST_PROCESSORS)) or None,  # no limit, as runtimes take a 0
        None if request is None else float(min(request, _MOST_PROCESSORS)),
        int(min(memory, _MOST_BYTES)) or None,
    )


def settings(tree: Tree, limits: Limits) -> dict[str, str]:
    """The files of a group that limits so much, and what is to be in them, in the order of writing."""
    wanted: dict[str, str] = {}
    if "cpu" in tree.controllers:
        if limits.cpu_request is not None:
            shares = max(_LEAST_SHARES, int(limits.cpu_request * _SHARES))
            # As kubelets convert it (KEP-2254): 2 to 262144 shares become 1 to 10000.
            weight = 1 + (min(shares, 262_144) - 2) * 9_999 // 262_142
            wanted |= {"cpu.shares": str(shares)} if tree.version == 1 else {"cpu.weight": str(weight)}
        if limits.cpu is not None:
            quota_us = max(_LEAST_QUOTA_US, int(limits.cpu * _PERIOD_US))
            wanted |= (
                {"cpu.cfs_period_us": str(_PERIOD_US), "cpu.cfs_quota_us": str(quota_us)}
                if tree.version == 1
                else {"cpu.max": f"{quota_us} {_PERIOD_US}"}
            )
    if "memory" in tree.controllers and limits.memory_bytes is not None:
        size = str(limits.memory_bytes)
        wanted |= (
            {"memory.limit_in_bytes": size, "memory.memsw.limit_in_bytes": size}
            if tree.version == 1
            else {"memory.max": size, "memory.swap.max": "0", "memory.oom.group": "1"}
        )
    return wanted
