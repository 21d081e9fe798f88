"""Kubernetes' two forms of a moment (RFC 3339, UTC): to the second, and to the microsecond."""

from __future__ import annotations

import time
from datetime import datetime, timezone


def timestamp(at_s: float) -> str:
    """A moment in seconds since the epoch as ``metav1.Time``: ``2026-01-31T12:00:00Z``."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def micro_timestamp(at_s: float) -> str:
    """A moment in seconds since the epoch as ``metav1.MicroTime``: ``2026-01-31T12:00:00.250000Z``."""
    return datetime.fromtimestamp(at_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds_of(text: object) -> float | None:
    """Seconds since the epoch of either form; None for what is neither (the store lets much pass)."""
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
