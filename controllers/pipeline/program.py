"""What one bridge is to hold, made of parts, so that two programs are compared by what changed and not flow by flow.

A part is made once from one subject (a node, a pod, a Service's port, an endpoint) and stays the very same object while
its subject does. What is alike on all nodes is one object that all their programs share, so it is compared, and can be
encoded, once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from controllers.pipeline.flow import Flow, FlowKey, Group, sort_key

PartKey = tuple[str | int, ...]

# How many versions back a difference can be told without looking at every part: bridges that are a little behind.
_VERSIONS = 4


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """The flows and groups of one subject. Two parts are the same only if they are the same object."""

    flows: tuple[Flow, ...] = ()
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts by what they are about. Never changed once made, and compared as an object.

    ``touched_since`` says for a few ``version`` s that came before which keys may differ: all others are the same.
    """

    by_key: Mapping[PartKey, Part]
    version: object = field(default_factory=object)
    touched_since: Mapping[object, frozenset[PartKey]] = field(default_factory=dict)

    def successor(self, by_key: Mapping[PartKey, Part], touched: Iterable[PartKey]) -> Parts:
        """The parts that come after these and differ from them in the ``touched`` keys only."""
        now = frozenset(touched)
        recent = list(self.touched_since.items())[: _VERSIONS - 1]
        return Parts(by_key, touched_since={self.version: now, **{old: keys | now for old, keys in recent}})

    def flows(self) -> Iterator[Flow]:
        """The flows of all parts, in no particular order."""
        for part in self.by_key.values():
            yield from part.flows

    def groups(self) -> Iterator[Group]:
        """The groups of all parts, in no particular order."""
        for part in self.by_key.values():
            yield from part.groups


NO_PARTS = Parts({})


@dataclass(frozen=True, eq=False)
class Program:
    """A bridge's flows and groups: what it has ``common`` with all bridges of the cluster, and its ``own``.

    No flow key and no group id is in both.
    """

    common: Parts
    own: Parts

    def flows(self) -> tuple[Flow, ...]:
        """All flows, sorted as they are printed."""
        return tuple(sorted((*self.common.flows(), *self.own.flows()), key=sort_key))

    def groups(self) -> tuple[Group, ...]:
        """All groups, sorted by their id."""
        return tuple(sorted((*self.common.groups(), *self.own.groups()), key=_group_id))


NOTHING = Program(NO_PARTS, NO_PARTS)


@dataclass(frozen=True, eq=False)
class PartsDiff:
    """What must change for one set of parts to become another.

    ``removed_flows`` are deleted by their key; ``added_flows`` are new or replace the flow that has their key. Added
    groups are new; modified ones have the id of one that is there.
    """

    removed_flows: tuple[Flow, ...] = ()
    added_flows: tuple[Flow, ...] = ()
    removed_groups: tuple[Group, ...] = ()
    added_groups: tuple[Group, ...] = ()
    modified_groups: tuple[Group, ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.removed_flows or self.added_flows or self.removed_groups or self.added_groups or self.modified_groups
        )


@dataclass(frozen=True)
class ProgramDiff:
    """A bridge's difference. ``common`` is one object for all bridges that go from the same program to the same.

    In this order a switch can apply it: groups added and modified, flows removed, flows added, groups removed (a switch
    deletes the flows that lead to a group together with it, OpenFlow 1.3.5 section 6.7).
    """

    common: PartsDiff
    own: PartsDiff

    def __bool__(self) -> bool:
        return bool(self.common or self.own)


def diff_programs(old: Program, new: Program) -> ProgramDiff:
    """The difference between two programs. ``NOTHING`` is the program of an empty bridge."""
    return ProgramDiff(_diff_common(old.common, new.common), _diff_parts(old.own, new.own))


@lru_cache(maxsize=4)  # all bridges of a cluster ask for the same one, but for those that are behind
def _diff_common(old: Parts, new: Parts) -> PartsDiff:
    return _diff_parts(old, new)


def _diff_parts(old: Parts, new: Parts) -> PartsDiff:
    if old is new:
        return PartsDiff()
    before, after = old.by_key, new.by_key
    keys = new.touched_since[old.version] if old.version in new.touched_since else before.keys() | after.keys()
    differing = sorted(key for key in keys if before.get(key) is not after.get(key))
    gone = [before[key] for key in differing if key in before]
    come = [after[key] for key in differing if key in after]
    old_flows = {flow.key: flow for part in gone for flow in part.flows}
    new_flows = {flow.key: flow for part in come for flow in part.flows}
    old_groups = {group.group_id: group for part in gone for group in part.groups}
    new_groups = {group.group_id: group for part in come for group in part.groups}
    return PartsDiff(
        removed_flows=tuple(flow for key, flow in old_flows.items() if key not in new_flows),
        added_flows=tuple(flow for key, flow in new_flows.items() if old_flows.get(key) != flow),
        removed_groups=tuple(group for number, group in old_groups.items() if number not in new_groups),
        added_groups=tuple(group for number, group in new_groups.items() if number not in old_groups),
        modified_groups=tuple(group for number, group in new_groups.items() if old_groups.get(number, group) != group),
    )


def apply_program_diff(
    flows: Mapping[FlowKey, Flow], groups: Mapping[int, Group], diff: ProgramDiff
) -> tuple[dict[FlowKey, Flow], dict[int, Group]]:
    """What a switch that holds ``flows`` and ``groups`` holds after the difference was sent to it.

    Raises KeyError where a switch would find nothing to delete or to modify.
    """
    flows, groups = dict(flows), dict(groups)
    for part in (diff.common, diff.own):
        groups.update((group.group_id, group) for group in part.added_groups)
        for group in part.modified_groups:
            del groups[group.group_id]
            groups[group.group_id] = group
        for flow in part.removed_flows:
            del flows[flow.key]
    for part in (diff.common, diff.own):
        flows.update((flow.key, flow) for flow in part.added_flows)
        for group in part.removed_groups:
            del groups[group.group_id]
    return flows, groups


def _group_id(group: Group) -> int:
    return group.group_id
