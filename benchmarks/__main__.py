"""Run the benchmarks, all or those named, and print one table: ``python -m benchmarks [NAME]...``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from pathlib import Path

from rich.console import Console

from benchmarks import (
    build,
    controller_push,
    dns_freshness,
    loops,
    memory,
    pipeline_rtt,
    pods,
    proxies_push,
    services_push,
    vip_rtt,
    watchers,
)
from benchmarks.figures import Figure, table
from testbed.network.builder import choose_datapath

BENCHMARKS = {
    "build": build.figures,
    "pipeline_rtt": pipeline_rtt.figures,
    "controller_push": controller_push.figures,
    "services_push": services_push.figures,
    "proxies_push": proxies_push.figures,
    "vip_rtt": vip_rtt.figures,
    "dns_freshness": dns_freshness.figures,
    "loops": loops.figures,
    "pods": pods.figures,
    "memory": memory.figures,
    "watchers": watchers.figures,
}


def main() -> int:
    """0 when every target is met, otherwise 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="How fast the testbed is.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one or more of: {', '.join(BENCHMARKS)}")
    names = parser.parse_args().names or list(BENCHMARKS)
    for name in names:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark {name}; there are: {', '.join(BENCHMARKS)}")
    status = Console(stderr=True)
    title = _machine()
    figures: list[Figure] = []
    for name in names:
        started = time.monotonic()
        status.print(f"{name} ...", highlight=False)
        figures += BENCHMARKS[name]()
        status.print(f"{name}: done in {time.monotonic() - started:.0f} s", highlight=False)
    # A file is not a terminal of 80 columns: nothing is folded there.
    console = Console(width=None if sys.stdout.isatty() else 200)
    console.print(table(title, figures))
    return 0 if all(figure.met is not False for figure in figures) else 1


def _machine() -> str:
    """The machine in one line, with its load before any of this runs: every other program makes the figures worse."""
    cpus = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    models = [line.partition(":")[2].strip() for line in cpus if line.startswith("model name")]
    datapath = {"netdev": "userspace", "system": "kernel"}[choose_datapath("auto")]
    return (
        f"{os.cpu_count()} x {models[0] if models else platform.machine()}, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {datapath} datapath; load before: {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    sys.exit(main())
