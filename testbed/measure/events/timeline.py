"""Lets a cell's events happen at their times, and notes what came of each."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from testbed.cluster.kinds import NODE, POD
from testbed.cluster.status import ApiError
from testbed.errors import RunError
from testbed.measure.events.actions import Noticed, act
from testbed.measure.events.happening import Happening
from testbed.measure.events.rest import REST_LIMIT_S, come_to_rest
from testbed.measure.interface import Network
from testbed.spec.events import Event


@dataclass(frozen=True)
class _Open:
    """An event that was written and is not confirmed yet. ``before``: the pods behind the path's Service then."""

    event: Event
    written_ns: int
    before: frozenset[str]
    noticed: Noticed


class Timeline:
    """The events of one cell. ``pods`` says which pods are behind the path's Service now.

    An event that is not yet confirmed when the next is due delays it, unless the cluster cannot confirm it before
    that: while the controller is away nothing is confirmed, and a stopped node is found out only after a while.
    """

    def __init__(self, network: Network, events: Sequence[Event], pods: Callable[[], frozenset[str]]) -> None:
        self._network, self._pods = network, pods
        self._events = sorted(events, key=lambda event: event.at_s)
        self._open: list[_Open] = []
        self._done: dict[int, Happening] = {}
        self._begin_ns = 0

    @property
    def happenings(self) -> tuple[Happening, ...]:
        """What has been confirmed so far, in the order of the events."""
        return tuple(happening for _, happening in sorted(self._done.items()))

    def run(self, begin_ns: int) -> None:
        """Let everything happen, ``begin_ns`` being the begin of measuring (``time.perf_counter_ns``).

        Raises RunError when the cluster does not take an event in.
        """
        self._begin_ns = begin_ns
        for number, event in enumerate(self._events):
            before = self._pods()
            due_ns = begin_ns + int(event.at_s * 1e9)
            time.sleep(max(due_ns - time.perf_counter_ns(), 0) / 1e9)
            written_ns = time.perf_counter_ns()
            try:
                noticed = act(self._network, event)
            except ApiError as error:
                raise RunError(f"{event.what}: {error}") from error
            self._open = [self._superseded(each, event, noticed) for each in self._open]
            self._open.append(_Open(event, written_ns, before, noticed))
            if event.stop_controller is not None:
                self._confirm(1)
            elif self._network.controller_is_running:
                self._wait(number)

    def _wait(self, number: int) -> None:
        """Wait until all that is open has followed, of a node's stop until the next event is due."""
        event, following = self._events[number], self._events[number + 1 :]
        limit_s = REST_LIMIT_S
        if event.stop_node is not None and following:
            limit_s = (self._begin_ns + following[0].at_s * 1e9 - time.perf_counter_ns()) / 1e9
        if not self._all_noticed(limit_s):
            if event.stop_node is not None and following:
                return
            late = ", ".join(each.event.what for each in self._open if not each.noticed())
            raise RunError(f"the cluster has not noticed within {limit_s:g} s: {late}")
        if event.stop_node is not None:
            # Others may take over the node's pods much later.
            self._network.wait_settled()
        else:
            come_to_rest(self._network)
        self._confirm(len(self._open))

    @staticmethod
    def _superseded(open_event: _Open, event: Event, noticed: Noticed) -> _Open:
        """An open stop of a node whose start comes before it was noticed: nobody will find it stopped any more."""
        stop, start = open_event.event.stop_node, event.start_node
        return replace(open_event, noticed=noticed) if stop is not None and stop == start else open_event

    def _all_noticed(self, limit_s: float) -> bool:
        """Whether the cluster notices every open event before the limit."""
        deadline = time.monotonic() + limit_s
        with self._network.store.watch((POD, NODE)) as watch:
            while not all(each.noticed() for each in self._open):
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                watch.next(left_s)
        return True

    def _confirm(self, count: int) -> None:
        """The latest ``count`` of what is open has followed."""
        now_ns, after = time.perf_counter_ns(), self._pods()
        for each in self._open[-count:]:
            self._done[each.written_ns] = Happening(
                each.event.what,
                (each.written_ns - self._begin_ns) / 1e6,
                (now_ns - self._begin_ns) / 1e6,
                removed=tuple(sorted(each.before - after)),
                added=tuple(sorted(after - each.before)),
                action=each.event.action,
            )
        del self._open[-count:]
