"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """Compare a text with ``tests/golden/<name>``; ``TESTBED_UPDATE_GOLDEN=1`` writes the file instead."""

    def compare(name: str, text: str) -> None:
        expected = GOLDEN / name
        if os.environ.get("TESTBED_UPDATE_GOLDEN"):
            expected.parent.mkdir(parents=True, exist_ok=True)
            expected.write_text(text)
        assert expected.is_file(), f"no golden file {expected}; run with TESTBED_UPDATE_GOLDEN=1 and review it"
        assert text == expected.read_text()

    return compare
