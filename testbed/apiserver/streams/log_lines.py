"""Reads a container's log: where to begin, and lines with their times before them.

A log is what the container wrote, byte by byte, and nothing else; the oldest part of a long one is a hole, which is
passed over. When it wrote what is kept beside it, as offsets with times
(:meth:`testbed.cluster.pod_access.PodAccess.log_times`).
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import BinaryIO

from testbed.apiserver.streams.client_socket import READ_BYTES
from testbed.apiserver.streams.log_options import LogOptions

Times = Sequence[tuple[int, float]]
"""Offsets with the time when what stands from there on was written, up to the next offset; both rise."""


class LogReader:
    """What the options choose of an open log, in pieces; ``times`` says what is known now of when it was written."""

    def __init__(self, log: BinaryIO, options: LogOptions, times: Callable[[], Times]) -> None:
        self._log, self._times = log, times
        self._stamps = options.timestamps
        self._left = options.limit_bytes
        self._at_line_start = True
        self._kept = _first_kept_line(log, 0)
        start = self._kept if options.tail_lines is None else _tail_start(log, options.tail_lines, self._kept)
        if options.since is not None:
            start = max(start, _since_start(log, times(), options.since))
        log.seek(start)

    @property
    def is_at_limit(self) -> bool:
        """Whether as many bytes have been read as were asked for."""
        return self._left == 0

    def read(self) -> bytes:
        """The next piece; empty when there is no more now, or it would be more than was asked for."""
        self._kept = _first_kept_line(self._log, self._kept)
        position = self._log.seek(max(self._kept, self._log.tell()))
        data = self._log.read(READ_BYTES)
        if self._stamps:
            data = self._stamped(data, position)
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data

    def _stamped(self, data: bytes, position: int) -> bytes:
        times = self._times()
        pieces = []
        for line in data.splitlines(keepends=True):
            if self._at_line_start:
                pieces.append(_timestamp(_time_of(times, position)))
            pieces.append(line)
            position += len(line)
            self._at_line_start = line.endswith(b"\n")
        return b"".join(pieces)


def _first_kept_line(log: BinaryIO, known: int) -> int:
    """Where the first whole line begins after the hole; ``known`` is where that was before."""
    try:
        descriptor = log.fileno()
        here = os.lseek(descriptor, 0, os.SEEK_CUR)
        kept = os.lseek(descriptor, 0, os.SEEK_DATA)
        os.lseek(descriptor, here, os.SEEK_SET)  # the log's own buffer counts on it
    except OSError:  # no data, or no file
        return known
    if kept <= known:
        return known
    position = log.tell()
    log.seek(kept)
    log.readline()
    known = log.tell()
    log.seek(position)
    return known


def _tail_start(log: BinaryIO, lines: int, first: int) -> int:
    """Where the last lines begin, of those from ``first`` on."""
    position = end = log.seek(0, 2)
    if lines == 0:
        return end
    wanted = lines
    while position > first:
        start = max(first, position - READ_BYTES)
        log.seek(start)
        block = log.read(position - start)
        if position == end and not block.endswith(b"\n"):
            wanted -= 1  # the last line is not ended
        found = len(block)
        while (found := block.rfind(b"\n", 0, found)) >= 0:
            if wanted == 0:
                return start + found + 1
            wanted -= 1
        position = start
    return first


def _since_start(log: BinaryIO, times: Times, since: float) -> int:
    """Where the first line begins that was written at that time or later; the end of the log when none was."""
    index = bisect_left(times, since, key=lambda entry: entry[1])
    if index == len(times):
        return log.seek(0, 2)
    start = times[index][0]
    if start > 0:
        log.seek(start - 1)
        if log.read(1) != b"\n":
            log.readline()  # the rest of a line that began earlier
            start = log.tell()
    return start


def _time_of(times: Times, position: int) -> float:
    index = bisect_right(times, position, key=lambda entry: entry[0])
    return times[max(0, index - 1)][1] if times else 0.0


def _timestamp(seconds: float) -> bytes:
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S.%f}000Z ".encode()
