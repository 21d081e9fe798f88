"""What must change on a bridge to get from one flow table to another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controllers.pipeline.flow import Flow


@dataclass(frozen=True)
class FlowDiff:
    """``removed`` flows are deleted by their key; ``added`` ones are new or replace the flow that has their key."""

    removed: tuple[Flow, ...]
    added: tuple[Flow, ...]

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)


def diff_flows(old: Iterable[Flow], new: Iterable[Flow]) -> FlowDiff:
    """The difference, each part in the order of its input."""
    old, new = tuple(old), tuple(new)
    # Most flows are the very same objects in both: those need no comparison.
    shared = set(map(id, old)) & set(map(id, new))
    old_by_key = {flow.key: flow for flow in old if id(flow) not in shared}
    new_by_key = {flow.key: flow for flow in new if id(flow) not in shared}
    return FlowDiff(
        removed=tuple(flow for key, flow in old_by_key.items() if key not in new_by_key),
        added=tuple(flow for key, flow in new_by_key.items() if old_by_key.get(key) != flow),
    )


def apply_diff(flows: Iterable[Flow], diff: FlowDiff) -> tuple[Flow, ...]:
    """What a switch that holds ``flows`` holds after the difference was sent to it, in no particular order."""
    by_key = {flow.key: flow for flow in flows}
    for flow in diff.removed:
        del by_key[flow.key]
    by_key.update((flow.key, flow) for flow in diff.added)
    return tuple(by_key.values())
