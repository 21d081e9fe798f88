"""What the flow that matched does with the packet, in a few words. Pure.

Read from the actions that Open vSwitch printed, not from the table's purpose: a flow that was put there by somebody
else is described as what it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address

from controllers.pipeline.tables import (
    FROM_GATEWAY,
    FROM_POD,
    FROM_SERVICE,
    FROM_TUNNEL,
    OUTSIDE,
    REG_CLIENT,
    REG_DESTINATION,
    REG_ENDPOINT_IP,
    REG_ENDPOINT_PORT,
    REG_GROUP,
    REG_MASQUERADE,
    REG_SOURCE,
    REG_TARGET,
    TO_NODE,
    TO_NODE_PORT,
    TO_SERVICE_ADDRESS,
)
from testbed.trace.names import Names
from testbed.trace.ofproto import TracedAction, TracedTable

# What the values that flows write into registers mean; a value that is not here is printed as a number.
_REGISTERS: Mapping[tuple[str, int], str] = {
    (REG_SOURCE, FROM_TUNNEL): "came by the tunnel",
    (REG_SOURCE, FROM_GATEWAY): "came from the node",
    (REG_SOURCE, FROM_POD): "came from a pod",
    (REG_SOURCE, FROM_SERVICE): "went through a Service",
    (REG_DESTINATION, TO_NODE): "for the node's address",
    (REG_DESTINATION, TO_SERVICE_ADDRESS): "for a Service's address",
    (REG_DESTINATION, TO_NODE_PORT): "for a NodePort",
    (REG_MASQUERADE, 1): "the client's address is to be replaced",
    (REG_CLIENT, OUTSIDE): "the client is outside",
}
_SET_FIELD = re.compile(r"set_field:(\S+)->(\w+)")
_IN_PORT_NONE = re.compile(r"load:0xffff->NXM_OF_IN_PORT\[\]")


class FlowWords:
    """Describes the flows of one bridge, whose ports are named ``interfaces`` by OpenFlow number."""

    def __init__(self, names: Names, interfaces: Mapping[int, str]) -> None:
        self._names, self._interfaces = names, interfaces

    def match(self, text: str) -> str:
        """A match with the port's name for its number."""
        return re.sub(r"\bin_port=(\d+)", lambda found: f"in_port={self.interface(int(found[1]))}", text) or "any"

    def interface(self, of_port: int) -> str:
        return self._interfaces.get(of_port, f"port {of_port}")

    def meaning(self, traced: TracedTable) -> str:
        """What becomes of the packet in this table."""
        if not traced.matched:
            return "no flow matches" if traced.depth else "NO FLOW MATCHES: dropped"
        if traced.drops:
            return "DROPPED by this flow"
        said = [words for action in traced.actions for words in self._action(action)]
        return ", ".join(dict.fromkeys(said)) or "goes on"

    def _action(self, action: TracedAction) -> list[str]:
        for pattern, words in self._known:
            found = pattern.fullmatch(action.text)
            if found is not None:
                said = words(found)
                return [text for text in (said, *action.troubles) if text]
        return [action.text]

    @property
    def _known(self) -> tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], str]], ...]:
        return (
            (_SET_FIELD, lambda found: self._set(found[2], found[1])),
            (_IN_PORT_NONE, lambda _: "may leave by the port it came by"),
            (re.compile(r"dec_ttl"), lambda _: "TTL - 1"),
            # Where it goes on shows in the next line.
            (re.compile(r"goto_table:\d+|resubmit\(,\d+\)"), lambda _: ""),
            (re.compile(r"output:(\d+)"), lambda found: f"out by {self.interface(int(found[1]))}"),
            (re.compile(r"output:NXM_NX_REG\d+\[\]"), lambda _: "sends it out"),
            (re.compile(r"IN_PORT"), lambda _: "back by the port it came by"),
            (re.compile(r"group:(\d+)"), lambda found: f"group {found[1]} chooses"),
            (re.compile(r"ct\(.*\)"), lambda _: "to connection tracking"),
            (re.compile(r"learn\(.*\)"), lambda _: "remembers the choice"),
            (re.compile(r"move:.*"), lambda _: ""),
        )

    def _set(self, name: str, value: str) -> str:
        if name.startswith("reg") and value.isalnum():
            return self._set_register(name, int(value, 0))
        if name == "eth_dst":
            return f"for {self._names.mac(value)}"
        if name in ("eth_src", "arp_sha"):
            return ""
        return f"{name} = {value}"

    def _set_register(self, name: str, value: int) -> str:
        if name == REG_TARGET:
            return f"to leave by {self.interface(value)}"
        if name == REG_GROUP:
            return f"group {value}"
        if name == REG_ENDPOINT_IP:
            return f"endpoint {self._names.with_name(IPv4Address(value))}"
        if name == REG_ENDPOINT_PORT:
            return f"port {value}"
        return _REGISTERS.get((name, value), f"{name} = {value}")
