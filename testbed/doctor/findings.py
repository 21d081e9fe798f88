"""What ``testbed doctor`` says about the facts: pure, one finding a line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from testbed.doctor import needs
from testbed.doctor.catalogue import OPENFLOW_LIBRARIES, PYTHON_PACKAGES, SETUP_COMMAND, TOOLS, install_command
from testbed.doctor.facts import BoxTrial, Facts

FORMAT = "testbed-doctor/v1"

# missing: no experiment runs; optional: only some experiments need it; info: a fact, neither good nor bad.
State = Literal["ok", "missing", "optional", "info"]

_FEATURE_PURPOSES = {
    "tun": "userspace datapath",
    "veth": "wires",
    "bridge": "L2 fabrics",
    "vxlan": "mode overlay",
    "tbf": "links with a rate",
    "netem": "links with delay, jitter, loss or queue",
    "nftables": "packet filter rules",
    "proxy_iptables": "proxy: iptables",
    "proxy_nftables": "proxy: nftables",
    "proxy_ipvs": "proxy: ipvs",
}


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``remedy`` is the command (or sentence) that brings what is not there."""

    section: str
    name: str
    state: State
    detail: str
    remedy: str = ""


def findings(facts: Facts) -> tuple[Finding, ...]:
    """Everything there is to say, in the order of the report."""
    return (
        *_box_findings(facts),
        *_datapath_findings(facts),
        *_feature_findings(facts),
        *_tool_findings(facts),
        *_python_findings(facts),
        Finding("machine", "kernel", "info", facts.kernel),
        Finding("machine", "cores", "info", str(facts.cores)),
        Finding("machine", "memory", "info", f"{facts.memory_mib:,} MiB"),
    )


def blockers(facts: Facts) -> tuple[needs.Missing, ...]:
    """Why no experiment at all can run for this user; empty when some can."""
    return needs.missing(facts, needs.Needs())


def report(facts: Facts) -> dict[str, Any]:
    """The same as data, for ``-o json``."""
    return {
        "format": FORMAT,
        "can_run": not blockers(facts),
        "datapath": "kernel" if facts.has_kernel_datapath else "user",
        "findings": [asdict(finding) for finding in findings(facts)],
        "facts": asdict(facts),
    }


def _box_findings(facts: Facts) -> Iterable[Finding]:
    if facts.root_box is None:
        yield Finding("sealed box", "as root", "info", "not tried: you are not root")
    else:
        yield _box_finding("as root", facts.root_box, "missing", needs.namespace_remedy(facts))
    state: State = "optional" if facts.is_root else "missing"
    rootless = facts.rootless_box
    remedy = needs.namespace_remedy(facts) if not facts.is_root else "see docs/ci.md, rootless"
    yield _box_finding("without root", rootless, state, remedy)
    if facts.is_root and rootless.opened.ok and not rootless.feature("tun").ok:
        detail = f"no tap device: {rootless.feature('tun').detail}"
        yield Finding("sealed box", "without root, /dev/net/tun", "optional", detail, "sudo chmod 0666 /dev/net/tun")


def _box_finding(name: str, box: BoxTrial, when_not: State, remedy: str) -> Finding:
    if box.opened.ok:
        return Finding("sealed box", name, "ok", "namespaces can be made")
    return Finding("sealed box", name, when_not, box.opened.detail, remedy)


def _datapath_findings(facts: Facts) -> Iterable[Finding]:
    if facts.has_kernel_datapath:
        yield Finding("datapath", "kernel datapath", "ok", "module openvswitch is loaded")
    else:
        reason, remedy = needs.kernel_datapath_remedy(facts)
        yield Finding("datapath", "kernel datapath", "optional", f"{reason}; the userspace one is used", remedy)
    tun = facts.box.feature("tun")
    if tun.ok:
        yield Finding("datapath", "userspace datapath", "ok", "tap devices can be made (/dev/net/tun)")
    else:
        needed: State = "optional" if facts.has_kernel_datapath else "missing"
        yield Finding("datapath", "userspace datapath", needed, tun.detail, needs.tun_remedy(facts))


def _feature_findings(facts: Facts) -> Iterable[Finding]:
    for feature, purpose in _FEATURE_PURPOSES.items():
        if feature == "tun":
            continue  # told with the datapath
        trial = facts.box.feature(feature)
        if trial.ok:
            yield Finding("kernel", feature, "ok", f"{purpose} ({trial.detail})" if trial.detail else purpose)
        else:
            command, package = needs.feature_remedy(facts, feature)
            state: State = "missing" if feature in needs.BASE_FEATURES else "optional"
            yield Finding("kernel", feature, state, f"{purpose}; {trial.detail}", command or install_command({package}))
    module = facts.modules.get("sctp", "absent")
    yield Finding(
        "kernel", "sctp", "info" if module == "absent" else "ok", f"Services of protocol SCTP; module {module}"
    )


def _tool_findings(facts: Facts) -> Iterable[Finding]:
    for tool in TOOLS.values():
        if tool.name in facts.tools:
            version = facts.tools[tool.name]
            yield Finding("tools", tool.name, "ok", f"{version}, {tool.purpose}" if version else tool.purpose)
        else:
            state: State = "missing" if tool.always else "optional"
            yield Finding("tools", tool.name, state, f"not installed; {tool.purpose}", install_command({tool.package}))


def _python_findings(facts: Facts) -> Iterable[Finding]:
    for package in PYTHON_PACKAGES:
        yield _python_finding(package.name, package.purpose, facts, "missing")
    have_one = any(library.name in facts.python_packages for library in OPENFLOW_LIBRARIES)
    for library in OPENFLOW_LIBRARIES:
        yield _python_finding(library.name, library.purpose, facts, "optional" if have_one else "missing")


def _python_finding(name: str, purpose: str, facts: Facts, when_not: State) -> Finding:
    if name in facts.python_packages:
        return Finding("python", name, "ok", f"{facts.python_packages[name]}, {purpose}")
    return Finding("python", name, when_not, f"not installed; {purpose}", SETUP_COMMAND)
