"""What a result does not say: the limits that the report states, read from what was recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PORTS_PER_VSWITCHD = 25  # above, idle ports are felt in the userspace datapath, whose one thread polls them all


def limits(document: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
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
        ports = environment.get("ports_per_vswitchd")
        crowded = {
            node: count
            for node, count in (ports.items() if isinstance(ports, Mapping) else ())
            if count > PORTS_PER_VSWITCHD
        }
        if crowded:
            found.append(
                f"More than {PORTS_PER_VSWITCHD} ports on one ovs-vswitchd ("
                + ", ".join(f"{node}: {count}" for node, count in sorted(crowded.items()))
                + "): it polls idle ports too, which adds to every round trip (an idle-port control shows it)."
            )
    if environment.get("routes") == "static":
        found.append(
            "Routes of the fabric were computed and installed by the testbed (routes: static); no routing daemon ran, "
            "so nothing here is about convergence."
        )
    found += [str(warning).rstrip(".") + "." for warning in environment.get("warnings") or ()]
    found += [
        "All nodes share one machine and its processor: times are those of this emulation. The paired ratio is the "
        "result, an absolute time is not a forecast for hardware.",
        "The BCa interval is approximate with few rounds. A difference is therefore claimed only where the sign-flip "
        "test agrees and the noise floor is exceeded.",
        "Exploratory comparisons are not corrected for their number.",
    ]
    return found
