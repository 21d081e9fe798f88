"""Progress of a long command: what is done, what is next, how long it will take.

Everything goes to standard error, so that standard output stays the command's result. Nothing here runs in the
background: the picture changes only when a step is reported, so it never takes processor time from a measurement.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bars


class Progress(Protocol):
    """What a room reports while it works. One phase is open at a time; ``start`` closes the one before."""

    def start(self, phase: str, total: int | None = None) -> None:
        """Open a phase of ``total`` steps (None: their number is not known beforehand)."""

    def advance(self, step: str = "", n: int = 1) -> None:
        """Report ``n`` steps as done; ``step`` says what is being done next."""

    def note(self, text: str) -> None:
        """Say something that should stay readable, for example why a round was void."""

    def finish(self) -> None:
        """Close the open phase."""


@dataclass
class Phase:
    """The bookkeeping of one phase, in seconds of a monotonic clock."""

    name: str
    total: int | None
    started: float
    done: int = 0
    next_step: str = ""

    def elapsed_s(self, now: float) -> float:
        return now - self.started

    def remaining_s(self, now: float) -> float | None:
        """Time left if the remaining steps take as long as the ones so far; None while nothing can be said."""
        if self.total is None or self.done == 0:
            return None
        return self.elapsed_s(now) / self.done * max(self.total - self.done, 0)

    def tenth(self) -> int:
        """How many tenths of the phase are done (0 while the total is unknown)."""
        return 10 * self.done // self.total if self.total else 0


def duration_text(seconds: float) -> str:
    """``4.2 s`` below ten seconds, ``42 s`` below a minute, ``3:07`` and ``1:02:30`` above."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def times_text(phase: Phase, now: float) -> str:
    """Elapsed time and, once it can be known, the time left."""
    text = f"{duration_text(phase.elapsed_s(now))} so far"
    remaining = phase.remaining_s(now)
    return text if remaining is None else f"{text}, about {duration_text(remaining)} left"


@dataclass
class PlainProgress:
    """Lines for a log: one when a phase starts, at most one per tenth of it, one when it ends."""

    stream: TextIO = field(default_factory=lambda: sys.stderr)
    clock: Callable[[], float] = time.monotonic
    _phase: Phase | None = None
    _tenth_shown: int = 0

    def start(self, phase: str, total: int | None = None) -> None:
        self.finish()
        self._phase, self._tenth_shown = Phase(phase, total, self.clock()), 0
        self._line(f"{phase}: " + ("started" if total is None else f"started, {total} steps"))

    def advance(self, step: str = "", n: int = 1) -> None:
        phase = self._phase
        if phase is None:
            return
        phase.done, phase.next_step = phase.done + n, step
        if phase.tenth() > self._tenth_shown and phase.done < (phase.total or 0):
            self._tenth_shown = phase.tenth()
            upcoming = f", next: {step}" if step else ""
            self._line(f"{phase.name}: {phase.done}/{phase.total}, {times_text(phase, self.clock())}{upcoming}")

    def note(self, text: str) -> None:
        self._line(text)

    def finish(self) -> None:
        if self._phase is not None:
            self._line(f"{self._phase.name}: done in {duration_text(self._phase.elapsed_s(self.clock()))}")
            self._phase = None

    def _line(self, text: str) -> None:
        print(text, file=self.stream, flush=True)


class RichProgress:
    """A bar on a terminal: phase, steps done, elapsed time, time left, and what is next."""

    def __init__(self, console: Console | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn

        self._clock = clock
        self._console = console or Console(stderr=True)
        self._columns = (
            TextColumn("{task.description:<26}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[count]}"),
            TextColumn("{task.fields[times]}", style="cyan"),
            TextColumn("{task.fields[upcoming]}", style="dim"),
        )
        self._bars: Bars | None = None
        self._phase: Phase | None = None

    def start(self, phase: str, total: int | None = None) -> None:
        from rich.progress import Progress as Bars

        self.finish()
        self._phase = Phase(phase, total, self._clock())
        # auto_refresh would draw from a thread of its own, in the middle of measurements.
        self._bars = Bars(
            *self._columns, console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._bars.add_task(phase, total=total, count="", times="", upcoming="")
        self._bars.start()
        self._draw()

    def advance(self, step: str = "", n: int = 1) -> None:
        if self._phase is not None:
            self._phase.done, self._phase.next_step = self._phase.done + n, step
            self._draw()

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def finish(self) -> None:
        if self._bars is not None and self._phase is not None:
            phase = self._phase
            self._bars.update(
                self._bars.task_ids[0],
                total=max(phase.done, 1),
                completed=max(phase.done, 1),
                times=f"done in {duration_text(phase.elapsed_s(self._clock()))}",
                upcoming="",
                refresh=True,
            )
            self._bars.stop()
            self._bars = self._phase = None

    def _draw(self) -> None:
        if self._bars is None or self._phase is None:
            return
        phase = self._phase
        self._bars.update(
            self._bars.task_ids[0],
            completed=phase.done,
            count="" if phase.total is None else f"{phase.done}/{phase.total}",
            times=times_text(phase, self._clock()),
            upcoming=phase.next_step,
            refresh=True,
        )


def open_progress(stream: TextIO | None = None) -> Progress:
    """The progress display for ``stream`` (standard error by default): bars on a terminal, plain lines elsewhere."""
    stream = stream or sys.stderr
    if stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown"):  # on those, rich draws nothing
        from rich.console import Console

        return RichProgress(Console(file=stream))
    return PlainProgress(stream)
