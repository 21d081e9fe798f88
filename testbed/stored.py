"""What a results folder holds: the columns of its tables, and the format that every document names.

It stands apart from all rooms, as the analysis reads stored results and knows nothing of what made them.
"""

from __future__ import annotations

FORMAT = "testbed-results/v1"
SAMPLE_COLUMNS = (
    "build",
    "round",
    "attempt",
    "position",
    "arm",
    "mode",
    "proxy",
    "path",
    "probe",
    "payload_bytes",
    "metric",
    "value",
)
REQUEST_COLUMNS = (
    *("build", "round", "attempt", "arm", "path", "probe"),
    *("due_ms", "over_ms", "status", "pod", "problem"),
)
