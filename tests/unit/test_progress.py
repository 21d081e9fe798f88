"""Progress: quiet lines for a log, bars for a terminal, and times that follow from the steps done."""

from __future__ import annotations

import io
from dataclasses import dataclass

import pytest
from rich.console import Console

from testbed.progress import Phase, PlainProgress, RichProgress, duration_text, open_progress


@dataclass
class FakeClock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


class TerminalStream(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1:00"),
        (187, "3:07"),
        (3750, "1:02:30"),
    ],
)
def test_durations_read_as_a_person_writes_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_time_left_follows_from_the_steps_done() -> None:
    phase = Phase("rounds", 40, started=100.0, done=10)
    assert phase.remaining_s(120.0) == pytest.approx(60.0)
    assert Phase("rounds", 40, started=100.0).remaining_s(120.0) is None
    assert Phase("rounds", None, started=100.0, done=3).remaining_s(120.0) is None
    assert Phase("rounds", 4, started=100.0, done=5).remaining_s(120.0) == 0


def test_plain_lines_tell_start_tenths_and_end(clock: FakeClock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, clock)
    progress.start("rounds", 20)
    for step in range(20):
        clock.now += 2
        progress.advance(f"cell {step + 1}")
    progress.finish()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "rounds: started, 20 steps"
    assert lines[1] == "rounds: 2/20, 4.0 s so far, about 36 s left, next: cell 2"
    assert lines[-1] == "rounds: done in 40 s"
    assert len(lines) == 2 + 9


def test_plain_lines_stay_few_however_many_steps(clock: FakeClock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, clock)
    progress.start("build", 5000)
    for _ in range(5000):
        progress.advance()
    progress.finish()
    assert len(stream.getvalue().splitlines()) <= 12


def test_a_phase_of_unknown_length_is_two_lines(clock: FakeClock) -> None:
    stream = io.StringIO()
    progress = PlainProgress(stream, clock)
    progress.start("analysis")
    progress.advance("plots")
    progress.note("round 3 is void: packet loss")
    progress.start("report")
    assert stream.getvalue().splitlines() == [
        "analysis: started",
        "round 3 is void: packet loss",
        "analysis: done in 0.0 s",
        "report: started",
    ]


def test_bars_show_count_times_and_what_is_next(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # whatever the tests run on
    stream = TerminalStream()
    progress = RichProgress(Console(file=stream, force_terminal=True, width=120), clock)
    progress.start("rounds", 4)
    clock.now += 3
    progress.advance("round 2 of 4")
    text = stream.getvalue()
    assert "1/4" in text
    assert "3.0 s so far, about 9.0 s left" in text
    assert "round 2 of 4" in text
    progress.note("a note")
    progress.finish()
    assert "a note" in stream.getvalue()
    assert "done in 3.0 s" in stream.getvalue()


def test_steps_outside_a_phase_change_nothing(clock: FakeClock) -> None:
    stream = io.StringIO()
    plain = PlainProgress(stream, clock)
    plain.advance("nothing is open")
    plain.finish()
    assert stream.getvalue() == ""
    bars = RichProgress(Console(file=stream), clock)
    bars.advance("nothing is open")
    bars.finish()
    assert stream.getvalue() == ""


def test_the_display_fits_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(open_progress(TerminalStream()), PlainProgress)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(open_progress(io.StringIO()), PlainProgress)
    assert isinstance(open_progress(TerminalStream()), RichProgress)
