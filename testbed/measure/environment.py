"""environment.json: everything about the machine and the software that a reader needs to believe or repeat a run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from testbed.measure import baseline, fidelity
from testbed.measure.interface import Network
from testbed.measure.placement import measuring_processor

_REPOSITORY = Path(__file__).parents[2]
_VERSION = re.compile(r"\d+(?:\.\d+)+|(?<=iputils )\d+")
_TOOLS = {
    "sockperf": ["sockperf", "--version"],
    "iperf3": ["iperf3", "--version"],
    "ping": ["ping", "-V"],
    "nft": ["nft", "--version"],
    "iptables": ["iptables", "--version"],
}
_PACKAGES = ("mininet", "ryu", "os-ken", "numpy", "scipy")


def environment(network: Network, *, seed: int) -> dict[str, Any]:
    """Facts about the machine, the software and the network, and the floors (about 3 s; inside the box, network idle).

    Raises :class:`testbed.errors.RunError` when preflight finds that the figures would be wrong.
    """
    facts = network.describe()
    warnings = fidelity.preflight(network)
    return {
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu_model": parse_cpu_model(Path("/proc/cpuinfo").read_text()),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "measuring_processor": measuring_processor(),
        "git_revision": git_revision(),
        "seed": seed,
        "ovs": facts.get("ovs_version"),
        "datapath": network.datapath,
        "openflow": openflow_library(),
        "tools": {name: tool_version(argv) for name, argv in _TOOLS.items()},
        "packages": {name: found for name in _PACKAGES if (found := package_version(name))},
        "mtu_bytes": facts.get("pod_mtu_bytes"),
        "underlay_mtu_bytes": facts.get("underlay_mtu_bytes"),
        "offloads": facts.get("transmit_checksum_offload"),
        "ports_per_vswitchd": facts.get("ports_per_vswitchd"),
        "routes": facts.get("routes"),
        "vni": facts.get("vni"),
        **baseline.measure(),
        "warnings": warnings,
    }


def parse_cpu_model(cpuinfo: str) -> str:
    """The processor's name from /proc/cpuinfo (proc(5)); "unknown" where the architecture does not give one."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else "unknown"


def git_revision() -> str:
    """The commit of the testbed's own code, with ``-dirty`` when files differ from it; "unknown" without git."""
    base = ["git", "-c", f"safe.directory={_REPOSITORY}", "-C", str(_REPOSITORY)]
    revision = _output([*base, "rev-parse", "HEAD"])
    if not revision:
        return "unknown"
    changed = _output([*base, "status", "--porcelain", "--untracked-files=no"])
    return revision + ("-dirty" if changed else "")


def openflow_library() -> str:
    """The library that the controller speaks OpenFlow with, by the controller's own rule: Ryu where it is installed."""
    chosen = os.environ.get("TESTBED_OPENFLOW") or ("ryu" if package_version("ryu") else "os-ken")
    return f"{chosen} {package_version(chosen)}"


def package_version(name: str) -> str:
    """The version of an installed Python package, or "" when it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def tool_version(argv: Sequence[str]) -> str:
    """The version that a program says it has, or "missing"."""
    found = _VERSION.search(_output(argv))
    return found[0] if found else "missing"


def _output(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else ""
