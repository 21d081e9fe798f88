"""What is wrong with a Service."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from testbed.apiserver.checks.addresses import wrong_endpoint, wrong_network
from testbed.apiserver.checks.names import label_problems, wrong_label_name, wrong_port_name
from testbed.apiserver.checks.words import (
    Problem,
    duplicate,
    forbidden,
    invalid_value,
    port_number,
    repeated,
    required,
    unsupported,
)
from testbed.cluster.objects import JsonObject
from testbed.cluster.values import NODE_PORTS, PROTOCOLS

_NODE_PORTS_TEXT = f"{NODE_PORTS[0]}-{NODE_PORTS[-1]}"
_TYPES = ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")
_CHOICES = {
    "type": _TYPES,
    "sessionAffinity": ("None", "ClientIP"),
    "externalTrafficPolicy": ("Cluster", "Local"),
    "internalTrafficPolicy": ("Cluster", "Local"),
}


def service_problems(wire: JsonObject) -> Iterator[Problem]:
    """What is wrong with its spec; whether its addresses and node ports can be had, is the allocation's to say."""
    spec = wire.get("spec") or {}
    for name, choices in _CHOICES.items():
        if spec.get(name) not in (None, *choices):
            yield f"spec.{name}", unsupported(spec[name], choices)
    yield from label_problems(spec.get("selector") or {}, "spec.selector")
    for name, wrong_one in (("externalIPs", wrong_endpoint), ("loadBalancerSourceRanges", wrong_network)):
        for index, text in enumerate(spec.get(name) or ()):
            if wrong := wrong_one(text):
                yield f"spec.{name}[{index}]", wrong
    kind = spec.get("type", "ClusterIP")
    ports: list[JsonObject] = spec.get("ports") or []
    if kind == "ExternalName":
        if not spec.get("externalName"):
            yield "spec.externalName", required()
        return
    if not ports and spec.get("clusterIP") != "None":
        yield "spec.ports", required()
    for index, port in enumerate(ports):
        at = f"spec.ports[{index}]"
        yield from _port_problems(port, at, needs_name=len(ports) > 1)
        if (number := port.get("nodePort")) and kind == "ClusterIP":
            yield f"{at}.nodePort", forbidden("may not be used when `type` is 'ClusterIP'")
        elif number and number not in NODE_PORTS:
            text = f"provided port is not in the valid range. The range of valid ports is {_NODE_PORTS_TEXT}"
            yield f"{at}.nodePort", invalid_value(number, text)
    yield from repeated((port.get("name") or f"#{index}" for index, port in enumerate(ports)), "spec.ports")
    seen = set[tuple[Any, Any]]()
    for index, port in enumerate(ports):
        known = port.get("protocol", "TCP"), port.get("port")
        if known in seen:
            yield f"spec.ports[{index}]", duplicate({"port": known[1], "protocol": known[0]})
        seen.add(known)


def service_change_problems(new: JsonObject, old: JsonObject) -> Iterator[Problem]:
    """What of it cannot be changed: its address, as long as it has one."""
    now, before = new.get("spec") or {}, old.get("spec") or {}
    wanted, had = now.get("clusterIP"), before.get("clusterIP")
    if had and wanted and wanted != had and "ExternalName" not in (now.get("type"), before.get("type")):
        yield "spec.clusterIPs[0]", invalid_value([wanted], "may not change once set")


def _port_problems(port: JsonObject, at: str, needs_name: bool) -> Iterator[Problem]:
    name, number, target = port.get("name"), port.get("port"), port.get("targetPort")
    if needs_name and not name:
        yield f"{at}.name", required()
    elif name and (wrong := wrong_label_name(name)):
        yield f"{at}.name", wrong
    if number is not None and (wrong := port_number(number)):
        yield f"{at}.port", wrong
    if port.get("protocol") not in (None, *PROTOCOLS):
        yield f"{at}.protocol", unsupported(port["protocol"], PROTOCOLS)
    if target is not None and target != "" and (wrong := wrong_target(target)):
        yield f"{at}.targetPort", wrong


def wrong_target(port: int | str) -> str | None:
    """Why this is neither number nor name of a port; None when it is one."""
    return wrong_port_name(port) if isinstance(port, str) else port_number(port)
