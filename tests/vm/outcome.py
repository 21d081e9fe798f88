"""What came out of a run in the guest: reads its folder, prints a summary, ends with 0 when all of it passed, else 1.

``python -m tests.vm.outcome FOLDER --accelerator TEXT``
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

# The smoke experiment runs with 1 ms on each of the two access links, and a round trip crosses both twice.
_NETEM_ROUND_TRIP_US = 4000.0
_STEPS = (
    "kernel modules",
    "cached files",
    "10 s of uptime",
    "doctor",
    "smoke experiment",
    "limits",
    "mode switching",
    "services",
)
# By what they test, the JUnit files of the tests.
_TESTS = {"limits": "limits.xml", "mode switching": "tests.xml", "services": "services.xml"}


def step_problems(text: str) -> Iterator[str]:
    """What is wrong with steps.tsv: a step that failed, or one that never ended."""
    status = {name: int(status) for name, status, _ in (line.split("\t") for line in text.splitlines())}
    for name in _STEPS:
        if name not in status:
            yield f"step {name!r} did not end"
        elif status[name]:
            yield f"step {name!r} ended with {'its time limit' if status[name] == 124 else status[name]}"


def round_trips(folder: Path) -> dict[tuple[str, str], list[float]]:
    """udp_rr samples in us by (mode, path), A/A cells left out."""
    found = defaultdict(list)
    with gzip.open(folder / "samples.csv.gz", "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["probe"] == "udp_rr" and row["metric"] == "rtt_us" and row["arm"] == row["mode"]:
                found[row["mode"], row["path"]].append(float(row["value"]))
    return dict(found)


def smoke_problems(environment: Mapping[str, Any], rtts_us: Mapping[tuple[str, str], list[float]]) -> Iterator[str]:
    """What speaks against "the kernel's Open vSwitch and netem carried the packets"."""
    if environment["datapath"] != "system":
        yield f"environment.json says datapath {environment['datapath']!r}, not 'system'"
    for mode in ("overlay", "routed"):
        far, near = rtts_us.get((mode, "cross_node"), []), rtts_us.get((mode, "same_node"), [])
        if not far or not near:
            yield f"no udp_rr samples for {mode}"
        elif min(far) < _NETEM_ROUND_TRIP_US:
            yield f"{mode}, across nodes: {min(far):.0f} us is faster than the links' delay"
        elif median(near) >= _NETEM_ROUND_TRIP_US:
            yield f"{mode}, on one node: {median(near):.0f} us looks like a link was crossed"


def outcomes_of_tests(junit: Path) -> dict[str, int]:
    """How many tests passed, failed and were skipped."""
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for case in ElementTree.parse(junit).iter("testcase"):
        outcomes = {child.tag for child in case}
        kind = "failed" if outcomes & {"failure", "error"} else "skipped" if "skipped" in outcomes else "passed"
        counts[kind] += 1
    return counts


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--accelerator", required=True)
    arguments = parser.parse_args()
    folder: Path = arguments.folder
    steps = folder / "steps.tsv"
    lines: list[str] = [f"guest: {arguments.accelerator}"]
    text = steps.read_text() if steps.is_file() else ""
    problems = list(step_problems(text))
    for line in text.splitlines():
        name, status, seconds = line.split("\t")
        lines.append(f"step {name}: status {status}, {seconds} s")
    if (folder / "smoke" / "environment.json").is_file():
        environment = json.loads((folder / "smoke" / "environment.json").read_text())
        rtts_us = round_trips(folder / "smoke")
        problems += smoke_problems(environment, rtts_us)
        lines.append(
            f"kernel {environment['kernel']}, Open vSwitch {environment['ovs']}, datapath {environment['datapath']}"
        )
        lines += [
            f"udp_rr {path}, {mode}: median {median(values):.0f} us of {len(values)} round trips"
            for (mode, path), values in sorted(rtts_us.items(), key=lambda item: (item[0][1], item[0][0]))
        ]
    for subject, name in _TESTS.items():
        if (folder / name).is_file():
            counts = outcomes_of_tests(folder / name)
            lines.append(f"tests of {subject}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))
            if counts["skipped"] or not counts["passed"]:
                problems.append(f"a test of {subject} was skipped, or there was none")
    if not text:
        problems += [f"console: {line}" for line in _last_words(folder / "console.log")]
    lines += [f"PROBLEM: {problem}" for problem in problems]
    lines.append("all passed" if not problems else "not passed")
    print("\n".join(lines))
    (folder / "outcome.txt").write_text("\n".join(lines) + "\n")
    return 1 if problems else 0


def _last_words(console: Path) -> list[str]:
    """The end of the guest's console, without control characters: why it did not come as far as its first step."""
    if not console.is_file():
        return []
    return [re.sub(r"[^ -~]", "", line) for line in console.read_text(errors="replace").splitlines()[-15:]]


if __name__ == "__main__":
    raise SystemExit(main())
