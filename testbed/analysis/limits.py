"""What a result does not say: the limits that the report states, read from what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BUSY_PCT = 10.0
# Of a select group (dp_hash), and from which deviation of a share from 1/n on they are not used, or are told of.
SLOTS, LARGEST_DEVIATION, WORTH_SAYING = 256, 0.1, 0.05
PORTS_PER_VSWITCHD = 25  # above, idle ports are felt in the userspace datapath, whose one thread polls them all


def limits(
    document: Mapping[str, Any], environment: Mapping[str, Any], experiment: Mapping[str, Any] | None = None
) -> list[str]:
    """The limits of a run as sentences, the run's own before the general ones."""
    found: list[str] = []
    if document["smoke"]:
        found.append("This is a smoke run: one short round. Its numbers show that everything works and nothing else.")
    if document["status"] != "complete":
        found.append(
            f"The run did not finish (status: {document['status']}); what is shown rests on its complete rounds."
        )
    missing = {build["build"]: build["missing"] for build in document["rounds"]["builds"] if build["missing"]}
    if missing and not document["smoke"]:
        found.append(
            "Planned rounds without a valid attempt: "
            + ", ".join(f"{count} in build {build}" for build, count in missing.items())
            + "."
        )
    if environment.get("datapath") == "netdev":
        found.append(
            "Open vSwitch ran in userspace. Each hop through it costs tens of microseconds in both modes, so absolute "
            "times are larger, and ratios closer to 1, than with the kernel's datapath."
        )
        if uneven := _node_to_pod(experiment or {}):
            found.append(
                f"Between a node and a pod of another node ({', '.join(uneven)}) the overlay passes one bridge more "
                "than routed does, the node's own: most of such a ratio is that hop through userspace, not VXLAN."
            )
        for build, ports in _ports(environment).items():
            crowded = [f"{node}: {count}" for node, count in sorted(ports.items()) if count > PORTS_PER_VSWITCHD]
            if crowded:
                found.append(
                    f"More than {PORTS_PER_VSWITCHD} ports on an ovs-vswitchd in build {build} ({', '.join(crowded)}): "
                    "it polls idle ports too, which adds to every round trip (an idle-port control shows it)."
                )
    if environment.get("routes") == "static":
        found.append(
            "Routes of the fabric were computed and installed by the testbed (routes: static); no routing daemon ran, "
            "so nothing here is about convergence."
        )
    found += _spread(environment, experiment or {})
    load_pct = document["rounds"]["other_load_pct"]
    if load_pct is not None and load_pct >= BUSY_PCT:
        found.append(
            f"Other programs used {load_pct:.0f}% of the processors (median over the valid rounds): round trips are "
            "longer and the noise floor is higher than on an idle machine."
        )
    found += [f"{warning.rstrip('.')}." for warning in _warnings(environment)]
    found += [
        "All nodes share one machine and its processor: times are those of this emulation. The paired ratio is the "
        "result, an absolute time is not a forecast for hardware.",
        "The BCa interval is approximate with few rounds. A difference is therefore claimed only where the sign-flip "
        "test agrees and the noise floor is exceeded.",
        "Exploratory comparisons are not corrected for their number.",
    ]
    return found


def _spread(environment: Mapping[str, Any], experiment: Mapping[str, Any]) -> list[str]:
    """How Open vSwitch spreads connections over the numbers of endpoints that were measured (the pipeline's groups).

    It has 256 slots for a group's endpoints. Where these cannot come within a tenth of 1/n (36 to 38, and most
    numbers from 41 on), the choice is by scores.
    """
    if "openflow" not in (experiment.get("proxies") or ("openflow",)):
        return []
    of_builds = (environment.get("builds") or {}).values()
    counts = sorted({count for facts in of_builds for count in (facts.get("endpoints") or {}).values() if count})
    found = []
    for count in counts:
        fewest, most = SLOTS // count, -(-SLOTS // count)
        low, high = fewest * count / SLOTS - 1, most * count / SLOTS - 1
        if max(-low, high) > LARGEST_DEVIATION:
            found.append(
                f"Among {count} endpoints Open vSwitch chooses by scores, which are even but ask ovs-vswitchd about "
                "every new connection; with fewer endpoints the datapath chooses TCP connections' by itself."
            )
        elif max(-low, high) > WORTH_SAYING:
            found.append(
                f"Among {count} endpoints Open vSwitch's shares of TCP connections deviate from 1/{count} by "
                f"{low:+.0%} to {high:+.0%}: an endpoint has {fewest} or {most} of {SLOTS} slots."
            )
    return found


def _node_to_pod(experiment: Mapping[str, Any]) -> list[str]:
    """Names of the paths with a node at one end and a pod at the other."""
    ends = {name: (path["from"], path["to"]) for name, path in (experiment.get("paths") or {}).items()}
    return [
        name
        for name, pair in ends.items()
        if any(end.startswith("node/") for end in pair) and not all(end.startswith(("node/", "ext/")) for end in pair)
    ]


def _ports(environment: Mapping[str, Any]) -> dict[str, Mapping[str, int]]:
    """Ports of each node's ovs-vswitchd, per build."""
    return {build: facts.get("ports_per_vswitchd") or {} for build, facts in (environment.get("builds") or {}).items()}


def _warnings(environment: Mapping[str, Any]) -> list[str]:
    """The warnings of the preflight, of the machine and of every build, each once."""
    of_builds = [facts.get("warnings") or () for facts in (environment.get("builds") or {}).values()]
    return list(dict.fromkeys(str(text) for texts in (environment.get("warnings") or (), *of_builds) for text in texts))
