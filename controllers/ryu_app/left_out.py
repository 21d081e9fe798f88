"""What a switch has refused, and the program without it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from controllers.pipeline.flow import Flow, Group, ToGroup
from controllers.pipeline.program import Part, PartKey, Parts, Program
from controllers.pipeline.text import flow_text
from testbed.cluster.values import ClusterState

_NAMED = 5  # an error that goes on for pages helps nobody


class LeftOut:
    """The parts of its program that one bridge goes without.

    A refused flow or group takes the whole part with it, so that nothing is half done, and the parts that lead to a
    group of that part. A part is tried again as soon as it is another one.
    """

    def __init__(self) -> None:
        self._texts: dict[Part, str] = {}
        self._last: tuple[Program, Program] | None = None  # a program, and that program without the parts

    def __str__(self) -> str:
        """What is left out and why, or nothing."""
        texts = list(self._texts.values())
        more = [f"and {len(texts) - _NAMED} more"] if len(texts) > _NAMED else []
        return "; ".join(texts[:_NAMED] + more)

    def add(self, program: Program, state: ClusterState, refused: Iterable[tuple[Flow | Group, str]]) -> bool:
        """Leave out what was refused of a program, which is a state's; False if nothing of that is in it."""
        texts = {id(item): f"{reason}: {item_text(item)}" for item, reason in refused}
        found: dict[Part, str] = {}
        for key, part in _parts(program):
            items: tuple[Flow | Group, ...] = (*part.groups, *part.flows)
            text = next((texts[id(item)] for item in items if id(item) in texts), "")
            if text:
                found[part] = f"{subject_text(key, state)}: {text}"
        group_ids = {group.group_id for part in found for group in part.groups}
        for key, part in _parts(program) if group_ids else ():
            if part not in found and _leads_to(part, group_ids):
                found[part] = f"{subject_text(key, state)}: it leads to a group that was refused"
        self._texts |= found
        self._last = None
        return bool(found)

    def without(self, program: Program) -> Program:
        """The program without the parts; those that it no longer has are forgotten."""
        if not self._texts:
            return program
        if self._last is None or self._last[0] is not program:
            present = {part for _, part in _parts(program) if part in self._texts}
            self._texts = {part: text for part, text in self._texts.items() if part in present}
            self._last = (program, Program(_without(program.common, present), _without(program.own, present)))
        return self._last[1]


def item_text(item: Flow | Group) -> str:
    """A flow or group in words, for errors. A group is not written out: it may be as long as a message can be."""
    if isinstance(item, Flow):
        return flow_text(item).strip()
    return f"group {item.group_id} with {len(item.buckets)} buckets"


def subject_text(key: PartKey, state: ClusterState) -> str:
    """What a part is about."""
    if key[0] in ("service", "local"):
        for port in state.service_ports:
            if port.group_number == key[1]:
                return f"Service {port.service_key}, port {port.port_name or port.service_port}"
    return " ".join(map(str, key))


def _parts(program: Program) -> Iterator[tuple[PartKey, Part]]:
    yield from program.common.by_key.items()
    yield from program.own.by_key.items()


def _without(parts: Parts, gone: set[Part]) -> Parts:
    kept = {key: part for key, part in parts.by_key.items() if part not in gone}
    return Parts(kept) if len(kept) < len(parts.by_key) else parts


def _leads_to(part: Part, group_ids: set[int]) -> bool:
    return any(
        isinstance(action, ToGroup) and action.group_id in group_ids for flow in part.flows for action in flow.actions
    )
