"""Runs one measurement in a sealed box of its own, so that none meets what another has left behind."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from typing import TypeVar

from testbed.network.box import run_sealed

Result = TypeVar("Result")


def boxed(measure: Callable[[], Result]) -> Result:
    """What ``measure`` returns, called in a new box; a value that JSON can carry. Exits when it fails in there."""
    with tempfile.TemporaryFile("w+") as report:

        def worker() -> int:
            json.dump(measure(), report)
            report.flush()
            return 0

        status = run_sealed(worker)
        if status:
            sys.exit(status)
        report.seek(0)
        result: Result = json.load(report)
        return result
