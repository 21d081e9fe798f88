"""When logs were written, as it is seen from outside of who writes them."""

from __future__ import annotations

import time
from pathlib import Path

from testbed.network.log_times import LogTimes
from tests.unit.stream_server import wait_until


def _noticed(times: LogTimes, log: Path) -> list[tuple[int, float]]:
    """What is known of a log without anybody having asked for it."""
    known = times._logs.get(log.stat().st_ino)
    return known.times if known is not None else []


def test_each_part_has_its_time(tmp_path):
    before = time.time()
    (tmp_path / "old.log").write_text("here before")
    with LogTimes(tmp_path) as times:
        log = tmp_path / "web.log"
        for number in (1, 2, 3):
            with log.open("a") as file:
                file.write("four")
            wait_until(lambda number=number: len(_noticed(times, log)) == number)
        seen = times.of(log)
        assert [offset for offset, _ in seen] == [0, 4, 8]
        moments = [before, *(moment for _, moment in seen), time.time()]
        assert moments == sorted(moments)
        assert times.of(tmp_path / "old.log")[0][0] == 0
        renamed = log.rename(tmp_path / "web.previous.log")
        log.write_text("another run")
        assert times.of(renamed) == seen
        assert [offset for offset, _ in times.of(log)] == [0]
        renamed.unlink()
        wait_until(lambda: len(times._logs) == 2)
        assert times.of(renamed) == ()


def test_much_that_is_written_takes_bounded_room(tmp_path, monkeypatch):
    monkeypatch.setattr("testbed.network.log_times._MOST_ENTRIES", 10)
    log = tmp_path / "web.log"
    with LogTimes(tmp_path) as times:
        for number in range(100):
            with log.open("a") as file:
                file.write("x")
            assert times.of(log), number
        seen = times.of(log)
    assert len(seen) <= 11
    assert seen[0][0] == 0
    assert list(seen) == sorted(seen)
