"""Finding the facts by trying: throwaway namespaces, programs asked for their version, modules looked up.

Nothing on the machine's own network is touched: what is made is made in namespaces that end with the trial.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from testbed.doctor.catalogue import OPENFLOW_LIBRARIES, PYTHON_PACKAGES, TOOLS, Tool
from testbed.doctor.facts import BoxTrial, Facts, ModuleState, Trial
from testbed.doctor.proxy_trials import PROXY_TRIALS

# Each is one command in the box; its success is the proof that the feature works there.
FEATURES: Mapping[str, str] = {
    "tun": "ip tuntap add dev trial-tap mode tap",
    "veth": "ip link add trial-a type veth peer name trial-b",
    "bridge": "ip link add trial-br type bridge",
    "vxlan": "ip link add trial-vx type vxlan id 1 dstport 4789",
    "tbf": "tc qdisc add dev lo root handle 1: tbf rate 100mbit burst 10kb latency 10ms",
    # A link with a rate and a delay carries both, so netem is tried on a device of its own.
    "netem": "ip link add trial-ne type veth && tc qdisc add dev trial-ne root netem delay 1ms",
    "nftables": "nft add table inet trial",
    **{f"proxy_{name}": command for name, command in PROXY_TRIALS.items()},
}

MODULES = ("openvswitch", "ip_vs", "sctp")

SYSCTLS = (
    "kernel.apparmor_restrict_unprivileged_userns",
    "kernel.unprivileged_userns_clone",
    "user.max_user_namespaces",
)

_NOBODY = 65534
_TRIAL_TIMEOUT_S = 60  # far above what a trial takes; an emulated machine has needed more than 20 s
# Debian keeps these out of an ordinary user's PATH although anyone may run what is in them.
_SYSTEM_DIRECTORIES = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def use_system_directories() -> None:
    """Let this process and those it starts find the programs in the system directories."""
    present = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join(dict.fromkeys((*present, *_SYSTEM_DIRECTORIES)))


def tool_path(name: str) -> str | None:
    """Where a program is, looking in the system directories too; None when it is nowhere."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *_SYSTEM_DIRECTORIES))
    return shutil.which(name, path=path)


def try_box(*, rootless: bool) -> BoxTrial:
    """Open a box as a run would and try each feature in it.

    Root tries the rootless box as the user *nobody*, because root itself is allowed what others may not be.
    """
    argv = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    identity: dict[str, object] = {}
    if rootless:
        argv += ["--user", "--map-root-user"]
        if os.geteuid() == 0:
            identity = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
    environment = {"PATH": os.pathsep.join((os.defpath, *_SYSTEM_DIRECTORIES)), "LC_ALL": "C"}
    try:
        done = subprocess.run(
            [*argv, "sh", "-c", _features_script()],
            capture_output=True,
            text=True,
            timeout=_TRIAL_TIMEOUT_S,
            env=environment,
            cwd="/",
            check=False,
            **identity,  # type: ignore[call-overload]
        )
    except (OSError, subprocess.SubprocessError) as error:
        return BoxTrial(Trial(False, str(error)))
    return read_trials(done.stdout, done.stderr)


def _features_script() -> str:
    lines = ["echo opened"]
    for name, command in FEATURES.items():
        lines.append(
            f'if said=$( {{ {command}; }} 2>&1 ); then echo "{name} ok" $said; else echo "{name} failed" $said; fi'
        )
    return "\n".join(lines)


def read_trials(output: str, errors: str) -> BoxTrial:
    """The trials from the script's output: ``opened``, then ``<feature> ok|failed <what was said>`` a line."""
    first, *lines = output.splitlines() or [""]
    if first != "opened":
        return BoxTrial(Trial(False, " ".join(errors.split()) or "the namespaces could not be made"))
    features = {}
    for line in lines:
        name, verdict, *said = line.split(maxsplit=2)
        features[name] = Trial(verdict == "ok", said[0] if said else "")
    return BoxTrial(Trial(True), features)


def module_state(name: str) -> ModuleState:
    """Whether a kernel module is there. ``modprobe -n`` only says what it would do."""
    if Path("/sys/module", name).is_dir():
        return "loaded"
    modprobe = tool_path("modprobe")
    if modprobe is None:
        return "absent"
    asked = subprocess.run([modprobe, "-n", name], capture_output=True, text=True, check=False)
    return "loadable" if asked.returncode == 0 else "absent"


def tool_version(tool: Tool) -> str | None:
    """The version a program gives of itself; "" when it says none, None when the program is not there."""
    if tool.file:
        return "" if Path(tool.file).exists() else None
    path = tool_path(tool.name)
    if path is None:
        return None
    try:
        said = subprocess.run([path, *tool.version_arguments], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return read_version(said.stdout or said.stderr)


def read_version(text: str) -> str:
    """The first thing in a version message that looks like a version number, or ""."""
    found = re.search(r"\d+(?:\.\d+)+|(?<=iputils )\d{8}", text)
    return found[0] if found else ""


def python_package_versions(names: Sequence[str]) -> dict[str, str]:
    """The versions of those Python packages that are installed."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def read_sysctls(root: Path = Path("/proc/sys")) -> dict[str, str]:
    """The settings of SYSCTLS that this kernel has."""
    files = {name: root / name.replace(".", "/") for name in SYSCTLS}
    return {name: file.read_text().strip() for name, file in files.items() if file.is_file()}


def gather(*, both_boxes: bool = True, programs: Iterable[str] = ()) -> Facts:
    """Everything about this machine; takes some tenths of a second.

    ``both_boxes=False`` leaves out the rootless trial for root, who does not use it in a run. ``programs`` are looked
    for beside those of the catalogue.
    """
    is_root = os.geteuid() == 0
    with ThreadPoolExecutor(max_workers=4) as pool:
        root_box = pool.submit(try_box, rootless=False) if is_root else None
        rootless_box = pool.submit(try_box, rootless=True) if both_boxes or not is_root else None
        versions = dict(zip(TOOLS, pool.map(tool_version, TOOLS.values()), strict=True))
        return Facts(
            is_root=is_root,
            kernel=platform.release(),
            cores=len(os.sched_getaffinity(0)),
            memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
            root_box=root_box.result() if root_box else None,
            rootless_box=rootless_box.result() if rootless_box else BoxTrial(Trial(False, "not tried")),
            modules={name: module_state(name) for name in MODULES},
            tools={name: version for name, version in versions.items() if version is not None}
            | {name: "" for name in programs if tool_path(name) is not None},
            python_packages=python_package_versions([package.name for package in PYTHON_PACKAGES + OPENFLOW_LIBRARIES]),
            sysctls=read_sysctls(),
        )
