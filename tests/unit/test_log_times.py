"""When logs were written, as it is seen from outside of who writes them."""

from __future__ import annotations

import time
from pathlib import Path

from testbed.apiserver.streams.log_lines import LogReader
from testbed.apiserver.streams.log_options import LogOptions
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


def test_of_a_long_log_the_newest_lines_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("testbed.network.log_times._KEPT_BYTES", 100_000)
    monkeypatch.setattr("testbed.network.log_times._SPARED_BYTES", 50_000)
    log = tmp_path / "web.log"
    log.touch()

    def line(number: int) -> bytes:
        return b"line %07d\n" % number

    with LogTimes(tmp_path) as times, log.open("rb") as early, log.open("rb") as late, log.open("ab", 0) as written:
        following = LogReader(early, LogOptions(), lambda: times.of(log))
        written.write(line(0))
        assert following.read() == line(0)
        for start in range(1, 50_001, 1000):
            written.write(b"".join(map(line, range(start, start + 1000))))
        assert log.stat().st_size > 600_000
        wait_until(lambda: log.stat().st_blocks * 512 < 200_000)
        expected = b"".join(map(line, range(50_001)))
        for reader in (following, LogReader(late, LogOptions(), lambda: times.of(log))):
            seen = b"".join(iter(reader.read, b""))
            assert 90_000 < len(seen) < 200_000
            assert expected.endswith(seen) and seen.startswith(b"line ")
        assert LogReader(late, LogOptions(tail_lines=2), lambda: times.of(log)).read() == line(49_999) + line(50_000)
        everything = LogReader(late, LogOptions(tail_lines=40_000), lambda: times.of(log))
        assert b"".join(iter(everything.read, b"")) == seen
