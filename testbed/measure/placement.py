"""On which processors the programs of a latency measurement run.

In a ping-pong only one of client, server and switches works at a time. When the scheduler puts them on different
processors, every hop waits for an idle processor to wake, and where they land changes from cell to cell: on two cores
the median of a cell jumped between 19 and 65 us on one and the same path. So for latency probes all of them share one
processor; the modes are placed alike. Throughput needs them side by side and leaves them to the scheduler.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType

_DAEMON = "ovs-vswitchd"


def measuring_processor() -> int:
    """The processor that latency probes run on: the last one allowed, as interrupts prefer the first."""
    return max(os.sched_getaffinity(0))


def on_measuring_processor(argv: Sequence[str]) -> list[str]:
    """The command line that runs a program on that processor only (taskset(1) becomes the program)."""
    return ["taskset", "--cpu-list", str(measuring_processor()), *argv]


class SwitchPlacement:
    """Moves the switches of the box, whose processes only the box's own /proc shows, between one processor and all."""

    def __init__(self) -> None:
        self._everywhere = os.sched_getaffinity(0)
        self._here: set[int] = self._everywhere

    def __enter__(self) -> SwitchPlacement:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.apart()

    def together(self) -> None:
        """All switches on the measuring processor."""
        self._move({measuring_processor()})

    def apart(self) -> None:
        """All switches wherever the scheduler likes."""
        self._move(self._everywhere)

    def _move(self, processors: set[int]) -> None:
        if processors == self._here:
            return
        for thread in _threads(_DAEMON):
            try:
                os.sched_setaffinity(thread, processors)
            except ProcessLookupError:  # Open vSwitch starts and ends threads as it needs them
                continue
        self._here = processors


def _threads(name: str) -> Iterable[int]:
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == name:
                yield from sorted(int(thread.name) for thread in (process / "task").iterdir())
        except OSError:  # it ended meanwhile
            continue
