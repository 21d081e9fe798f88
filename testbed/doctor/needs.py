"""What a command needs of the machine, and what of it is missing. Pure but for :func:`require`, which looks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from testbed.doctor.catalogue import OPENFLOW_LIBRARIES, PYTHON_PACKAGES, SETUP_COMMAND, TOOLS, install_command
from testbed.doctor.facts import DatapathWish, Facts
from testbed.errors import MachineError

# What every network is built of. The tap device is the userspace datapath's own need.
BASE_FEATURES = ("veth", "bridge", "vxlan")
BASE_TOOLS = tuple(tool.name for tool in TOOLS.values() if tool.always)


@dataclass(frozen=True)
class Needs:
    """What one run needs beyond the base: kernel features, programs, modules, each with the reason for it."""

    datapath: DatapathWish = "auto"
    features: tuple[tuple[str, str], ...] = ()
    tools: tuple[tuple[str, str], ...] = ()
    modules: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Missing:
    """One thing the machine lacks: what, what it is for, and what brings it (a command, or a sentence)."""

    what: str
    reason: str
    remedy: str = ""
    package: str = ""

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


def missing(facts: Facts, needs: Needs) -> tuple[Missing, ...]:
    """Everything the machine lacks for ``needs``, base included; empty when it can run."""
    return (
        *_missing_box(facts),
        *_missing_datapath(facts, needs.datapath),
        *_missing_features(facts, needs),
        *_missing_modules(facts, needs),
        *_missing_tools(facts, needs),
        *_missing_python(facts),
    )


def require(needs: Needs, facts: Facts | None = None) -> None:
    """Look at this machine; raise MachineError naming everything that is missing and the commands that bring it."""
    if facts is None:
        from testbed.doctor.trials import gather

        facts = gather(both_boxes=False, programs=[name for name, _ in needs.tools if name not in TOOLS])
    lacking = missing(facts, needs)
    if lacking:
        lines = ["This machine cannot do it:", *(f"  - {item}" for item in lacking)]
        commands = remedies(lacking)
        if commands:
            lines += ["What brings it:", *(f"    {command}" for command in commands)]
        raise MachineError("\n".join(lines))


_OTHER_KERNEL = "a kernel that has it, such as Debian's (make test-vm boots one)"


def remedies(lacking: Iterable[Missing]) -> tuple[str, ...]:
    """The commands that bring what is missing, each once, the Debian packages in one command."""
    packages = {item.package for item in lacking if item.package}
    others = dict.fromkeys(item.remedy for item in lacking if item.remedy)
    return (*([install_command(packages)] if packages else []), *others)


def namespace_remedy(facts: Facts) -> str:
    """What allows this user to make the namespaces of a box."""
    if facts.is_root:
        return "give this container CAP_SYS_ADMIN and CAP_NET_ADMIN (docker run --privileged)"
    if facts.sysctls.get("kernel.apparmor_restrict_unprivileged_userns") == "1":
        return "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    if facts.sysctls.get("kernel.unprivileged_userns_clone") == "0":
        return "sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if facts.sysctls.get("user.max_user_namespaces") == "0":
        return "sudo sysctl -w user.max_user_namespaces=15000"
    return "run it as root (sudo), or where this session may make user namespaces (in containers seccomp forbids them)"


def tun_remedy(facts: Facts) -> str:
    """What gives this user the tap devices of the userspace datapath."""
    if facts.is_root:
        return "sudo modprobe tun; in a container: docker run --device /dev/net/tun"
    return "sudo modprobe tun && sudo chmod 0666 /dev/net/tun"


def kernel_datapath_remedy(facts: Facts) -> tuple[str, str]:
    """(what is the matter, what brings it) when the kernel's Open vSwitch is not there."""
    if facts.modules.get("openvswitch") == "loadable":
        return "module openvswitch is not loaded", "sudo modprobe openvswitch"
    return "this kernel has no module openvswitch", "a kernel with it, such as Debian's (make test-vm boots one)"


def feature_remedy(facts: Facts, feature: str) -> tuple[str, str]:
    """What brings a kernel feature: (command or sentence, Debian package)."""
    if feature == "tun":
        return tun_remedy(facts), ""
    if feature == "nftables" and "nft" not in facts.tools:
        return "", TOOLS["nft"].package
    if feature == "proxy_ipvs" and not facts.is_root and "vs/conntrack" in facts.box.feature(feature).detail:
        return "run it as root (sudo): IPVS keeps its settings from ordinary users' namespaces", ""
    modules = {
        "netem": "sch_netem",
        "tbf": "sch_tbf",
        "nftables": "nf_tables",
        "proxy_iptables": "-a xt_recent xt_statistic xt_addrtype xt_conntrack xt_MASQUERADE ipt_REJECT",
        "proxy_nftables": "-a nft_numgen nft_fib_ipv4 nft_masq nft_reject_ipv4",
        "proxy_ipvs": "-a ip_vs ip_vs_rr ip_vs_lc ip_vs_sh dummy xt_set ip_set_hash_ipport ip_set_hash_ipportip",
    }.get(feature, feature)
    return f"sudo modprobe {modules}, or {_OTHER_KERNEL}", ""


def _missing_box(facts: Facts) -> Iterable[Missing]:
    if not facts.box.opened.ok:
        who = "root" if facts.is_root else "an ordinary user"
        yield Missing(f"namespaces as {who}", facts.box.opened.detail, namespace_remedy(facts))


def _missing_datapath(facts: Facts, wish: DatapathWish) -> Iterable[Missing]:
    if wish == "kernel" and not facts.has_kernel_datapath:
        yield Missing("kernel datapath", *kernel_datapath_remedy(facts))
    uses_kernel = wish == "kernel" or (wish == "auto" and facts.has_kernel_datapath)
    if not uses_kernel and facts.box.opened.ok and not facts.box.feature("tun").ok:
        yield Missing(
            "tap devices (/dev/net/tun)",
            f"the userspace datapath needs them; {facts.box.feature('tun').detail}",
            tun_remedy(facts),
        )


def _missing_features(facts: Facts, needs: Needs) -> Iterable[Missing]:
    if not facts.box.opened.ok:
        return  # nothing could be tried; the box itself is reported
    wanted = dict.fromkeys(BASE_FEATURES, "every network is built of it") | dict(needs.features)
    for feature, reason in wanted.items():
        trial = facts.box.feature(feature)
        if not trial.ok:
            remedy, package = feature_remedy(facts, feature)
            yield Missing(feature, f"{reason}; {trial.detail}" if trial.detail else reason, remedy, package)


def _missing_modules(facts: Facts, needs: Needs) -> Iterable[Missing]:
    for module, reason in needs.modules:
        if facts.modules.get(module, "absent") == "absent":
            yield Missing(f"module {module}", f"this kernel has none; {reason}", _OTHER_KERNEL)


def _missing_tools(facts: Facts, needs: Needs) -> Iterable[Missing]:
    wanted = {name: TOOLS[name].purpose for name in BASE_TOOLS} | dict(needs.tools)
    for name, reason in wanted.items():
        if name not in facts.tools:
            tool = TOOLS.get(name)
            yield Missing(name, f"not installed; needed for {reason}", package=tool.package if tool else "")


def _missing_python(facts: Facts) -> Iterable[Missing]:
    for package in PYTHON_PACKAGES:
        if package.name not in facts.python_packages:
            yield Missing(
                f"Python package {package.name}", f"not installed; needed for {package.purpose}", SETUP_COMMAND
            )
    if not any(library.name in facts.python_packages for library in OPENFLOW_LIBRARIES):
        names = " or ".join(library.name for library in OPENFLOW_LIBRARIES)
        yield Missing(f"Python package {names}", "not installed; needed for the OpenFlow controller", SETUP_COMMAND)
