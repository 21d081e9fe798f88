"""Follow a packet from station to station: kernels, bridges, tunnels, wires, until somebody has it or drops it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from testbed.cluster.values import VXLAN_OVERHEAD_BYTES
from testbed.trace.bridge import Bridge
from testbed.trace.kernel import Decision, Interface, Kernel, NoRoute
from testbed.trace.names import Names
from testbed.trace.netfilter import Firewall, Hook, Ruling
from testbed.trace.places import Places
from testbed.trace.rules import deciding_rule
from testbed.trace.values import INITIAL_TTL, End, FiveTuple, Hop, Packet, Step, Way

# No way through a cluster has as many stations; beyond, the packet is going round.
_MOST_HOPS = 64
_ANY_MAC = "00:00:00:00:00:00"  # a VXLAN device's entry for every MAC that has none of its own
_BROADCAST = "ff:ff:ff:ff:ff:ff"


class _Stop(Exception):
    """The packet goes no further from here."""

    def __init__(self, fate: str, reason: str) -> None:
        super().__init__(reason)
        self.fate, self.reason = fate, reason


class Journey:
    """One packet's way. ``bridges`` are by the namespace of their ports, ``firewalls`` made for each namespace once."""

    def __init__(
        self,
        kernel: Kernel,
        names: Names,
        places: Places,
        bridges: Mapping[str, Bridge],
        firewall: Callable[[str], Firewall],
    ) -> None:
        self._kernel, self._names, self._places = kernel, names, places
        self._bridges, self._firewall = bridges, firewall
        self._waiting: deque[Callable[[], None]] = deque()
        self._hops: list[Hop] = []
        self._ends: list[End] = []
        self.several_next_hops = False

    def follow(self, namespace: str, packet: Packet, *, source_known: bool) -> Way:
        """The way of a packet that a program in a namespace sends; the kernel chooses its source if it is not known."""
        self._waiting.append(lambda: self._originate(namespace, packet, source_known))
        stations = 0
        while self._waiting:
            stations += 1
            if stations > _MOST_HOPS:
                last = self._hops[-1]
                self._ends.append(End("dropped", last.place, "it goes round until its TTL is used up", last.packet))
                break
            self._waiting.popleft()()
        return Way(tuple(self._hops), tuple(self._ends))

    # -- kernels ------------------------------------------------------------------------------------------------

    def _originate(self, namespace: str, packet: Packet, source_known: bool) -> None:
        """A packet that the namespace itself sends."""
        steps: list[Step] = []
        place, start = self._places.name(namespace), packet
        try:
            decision = self._decide(steps, namespace, packet, source_known=source_known)
            if not source_known:
                packet = self._with_source(namespace, packet, decision)
                start = packet
            before = packet.tuple
            packet = self._filter(steps, namespace, "output", packet, oif=decision.device)
            if packet.tuple != before or packet.mark != start.mark:
                # The kernel routes again what its rules have changed (ip_route_me_harder).
                decision = self._decide(steps, namespace, packet, source_known=True)
            if decision.kind == "local":
                self._local(steps, namespace, packet, iif="lo")
            else:
                packet = self._filter(steps, namespace, "postrouting", packet, oif=decision.device)
                self._transmit(steps, namespace, packet, decision)
        except _Stop as stop:
            self._end(stop, place, packet, namespace)
        self._hop(place, start, steps)

    def _arrive(self, interface: Interface, packet: Packet) -> None:
        """A frame that the kernel behind an interface gets."""
        steps: list[Step] = []
        namespace = interface.namespace
        place, start = self._places.name(namespace), packet
        try:
            if not interface.up:
                raise _Stop("dropped", f"interface {interface.name} is down")
            if packet.eth_dst not in (interface.mac, _BROADCAST):
                wrong = self._names.mac(packet.eth_dst)
                raise _Stop("dropped", f"the frame is for {wrong}, and {interface.name} is {interface.mac}")
            packet = self._filter(steps, namespace, "prerouting", packet, iif=interface.name)
            decision = self._decide(steps, namespace, packet, source_known=True, iif=interface.name)
            if decision.kind == "local":
                self._local(steps, namespace, packet, iif=interface.name)
            else:
                self._forward(steps, interface, packet, decision)
        except _Stop as stop:
            self._end(stop, place, packet, namespace)
        self._hop(f"{place}, in by {interface.name}", start, steps)

    def _forward(self, steps: list[Step], interface: Interface, packet: Packet, decision: Decision) -> None:
        namespace = interface.namespace
        if packet.ttl <= 1:
            raise _Stop("refused", "the TTL is used up")
        packet = replace(packet, ttl=packet.ttl - 1)
        devices = {"iif": interface.name, "oif": decision.device}
        packet = self._filter(steps, namespace, "forward", packet, **devices)
        packet = self._filter(steps, namespace, "postrouting", packet, **devices)
        self._transmit(steps, namespace, packet, decision)

    def _local(self, steps: list[Step], namespace: str, packet: Packet, iif: str) -> None:
        """A packet for an address of this namespace: for a VXLAN device's socket, or delivered."""
        packet = self._filter(steps, namespace, "input", packet, iif=iif)
        if packet.inner is not None:
            self._leave_tunnel(steps, namespace, packet, packet.inner)
            return
        known = packet.tuple
        reason = ""
        if known.protocol != "icmp" and not packet.is_reply:
            name = f"{known.protocol.upper()} port {known.destination_port}"
            if self._kernel.listens(namespace, known.protocol, known.destination, known.destination_port):
                steps.append(Step("socket", f"a program listens on {name}", {"listens": True}))
            else:
                answer = "a reset" if known.protocol == "tcp" else "ICMP port unreachable"
                reason = f"nothing listens on {name}: the kernel answers with {answer}"
                steps.append(Step("socket", reason, {"listens": False}))
        self._ends.append(End("delivered", self._places.name(namespace), reason, packet, namespace))

    def _decide(
        self, steps: list[Step], namespace: str, packet: Packet, *, source_known: bool, iif: str = ""
    ) -> Decision:
        """Ask the kernel for its routing decision; raises _Stop where it drops or refuses."""
        try:
            decision = self._kernel.route(namespace, packet.tuple, source_known=source_known, iif=iif, mark=packet.mark)
        except NoRoute as error:
            if iif and not self._kernel.forwards(namespace, iif):
                said = f"the kernel forwards nothing that comes in by {iif} (net.ipv4.conf.{iif}.forwarding is 0)"
                raise _Stop("dropped", said) from None
            cause = self._places.fallen(lambda one: one.namespace == namespace)  # its routes went with it
            raise _Stop("dropped", f"no route to {packet.tuple.destination}: {error}{cause}") from None
        rule = deciding_rule(self._kernel.rules(namespace), packet, decision.table, iif)
        if rule is not None:
            steps.append(Step("rule", rule.text, {"priority": rule.priority, "table": decision.table}))
        steps.append(Step("route", self._route_words(namespace, decision), _route_data(decision)))
        if decision.kind not in ("unicast", "local"):
            words = f"route {decision.kind} {decision.prefix} (table {decision.table})"
            raise _Stop("dropped" if decision.kind == "blackhole" else "refused", words)
        return decision

    def _route_words(self, namespace: str, decision: Decision) -> str:
        if decision.kind == "local":
            return "for this address itself"
        if decision.kind != "unicast":
            return f"{decision.kind} {decision.prefix} (table {decision.table})"
        interface = self._kernel.interfaces(namespace).get(decision.device)
        way = f"via {self._names.with_name(decision.gateway)}" if decision.gateway else "directly"
        words = f"{decision.prefix} {way} dev {decision.device}"
        if interface is not None:
            words += f", MTU {decision.mtu_bytes or interface.mtu_bytes}"
        words += f" (table {decision.table})" if decision.table != "main" else ""
        if len(decision.next_hops) > 1:
            self.several_next_hops = True
            others = [
                f"{gateway or 'directly'} dev {device}"
                for gateway, device in decision.next_hops
                if (gateway, device) != (str(decision.gateway or ""), decision.device)
            ]
            words += f"; 1 of {len(decision.next_hops)} by a hash of addresses and ports, else {', '.join(others)}"
        return words

    def _with_source(self, namespace: str, packet: Packet, decision: Decision) -> Packet:
        source = decision.source
        if source is None:
            addresses = self._kernel.interfaces(namespace)[decision.device].addresses
            source = addresses[0].ip if addresses else packet.tuple.destination
        return replace(packet, tuple=replace(packet.tuple, source=source))

    def _filter(
        self, steps: list[Step], namespace: str, hook: Hook, packet: Packet, iif: str = "", oif: str = ""
    ) -> Packet:
        """The kernel's netfilter rules at a hook; raises _Stop where they drop or refuse."""
        ruling: Ruling = self._firewall(namespace).ask(hook, packet, iif, oif)
        steps += ruling.steps
        if ruling.fate is not None:
            raise _Stop(ruling.fate, ruling.reason)
        return ruling.packet

    # -- wires --------------------------------------------------------------------------------------------------

    def _transmit(self, steps: list[Step], namespace: str, packet: Packet, decision: Decision) -> None:
        """Send a packet out of a kernel's interface: who is its next hop, and where does the wire lead?"""
        device = self._kernel.interfaces(namespace)[decision.device]
        far = self._kernel.other_end(device)
        if not device.up or not device.carrier:
            trouble = "down" if not device.up else "without carrier"
            raise _Stop("dropped", f"interface {device.name} is {trouble}{self._places.link_trouble(device)}")
        if far is None:
            raise _Stop("dropped", f"interface {device.name} leads nowhere")
        next_hop = decision.gateway or packet.tuple.destination
        mac = self._resolve(steps, device, far, packet, decision, next_hop)
        frame = replace(packet, eth_src=device.mac, eth_dst=mac, mark=0)
        self._waiting.append(lambda: self._frame(far, frame))

    def _resolve(
        self,
        steps: list[Step],
        device: Interface,
        far: Interface,
        packet: Packet,
        decision: Decision,
        next_hop: IPv4Address,
    ) -> str:
        """The next hop's MAC: as the kernel knows it, or else as the other side would answer its ARP request."""
        mac = self._kernel.neighbour(device.namespace, next_hop, device.name)
        asked = mac is None
        if mac is None:
            bridge = self._bridges.get(far.namespace)
            if bridge is not None and bridge.has_port(far.name):
                asker = decision.source or packet.tuple.source
                mac = bridge.answer_for(far.name, device.mac, asker, next_hop)
            else:
                owner = self._places.owner_on_wire(far, next_hop)
                mac = owner.mac if owner is not None else None
        if mac is None:
            cause = self._places.fallen(lambda one: any(own.ip == next_hop for own in one.addresses))
            raise _Stop("dropped", f"nobody answers the ARP request for {next_hop} on {device.name}{cause}")
        name = self._names.mac(mac)
        said = f"{next_hop} is at {mac}" + (f" ({name})" if name != mac else "")
        said += ", as an ARP request would be answered" if asked else ", as the kernel knows"
        steps.append(Step("neighbour", said, {"address": str(next_hop), "mac": mac, "asked": asked}))
        return mac

    def _frame(self, interface: Interface, packet: Packet) -> None:
        """A frame that comes out of a wire at an interface."""
        bridge = self._bridges.get(interface.namespace)
        if bridge is not None:
            self._bridge(bridge, interface, packet)
        elif interface.master:
            self._switch(interface, packet)
        else:
            self._arrive(interface, packet)

    def _switch(self, interface: Interface, packet: Packet) -> None:
        """A kernel bridge of the fabric: to the port behind which the MAC is."""
        place = self._places.name(interface.namespace)
        target = self._places.behind(interface, packet.eth_dst)
        if target is None:
            cause = self._places.fallen(lambda one: one.mac == packet.eth_dst)
            reason = f"nobody on its wires has the MAC {packet.eth_dst}{cause}"
            self._ends.append(End("dropped", place, reason, packet))
            self._hop(f"{place}, in by {interface.name}", packet, [])
            return
        out, far = target
        self._hop(f"{place}, in by {interface.name}", packet, [Step("wire", f"out by {out.name}", {"out": out.name})])
        self._waiting.append(lambda: self._frame(far, packet))

    # -- bridges and tunnels ------------------------------------------------------------------------------------

    def _bridge(self, bridge: Bridge, interface: Interface, packet: Packet) -> None:
        place = self._places.name(interface.namespace)
        if not bridge.has_port(interface.name):
            reason = f"interface {interface.name} is no port of the bridge"
            self._ends.append(End("dropped", place, reason, packet))
            self._hop(place, packet, [])
            return
        through = bridge.through(interface.name, packet)
        self._hop(f"{place}, in by {interface.name}", packet, list(through.steps))
        if not through.outputs:
            self._ends.append(End("dropped", place, through.drop, packet))
        for name, leaving in through.outputs:
            out = self._kernel.interfaces(interface.namespace).get(name)
            if out is not None:
                self._leave_bridge(place, out, leaving)
            else:
                self._ends.append(End("dropped", place, f"{name} is no interface", leaving))

    def _leave_bridge(self, place: str, out: Interface, packet: Packet) -> None:
        if out.kind == "vxlan":
            self._waiting.append(lambda: self._enter_tunnel(out, packet))
            return
        far = self._kernel.other_end(out)
        if far is None or not out.up or not out.carrier:
            trouble = "leads nowhere" if far is None else "is down" if not out.up else "has no carrier"
            reason = f"interface {out.name} {trouble}{self._places.link_trouble(out)}"
            self._ends.append(End("dropped", place, reason, packet))
            return
        self._waiting.append(lambda: self._frame(far, packet))

    def _enter_tunnel(self, device: Interface, packet: Packet) -> None:
        """A VXLAN device puts the frame into a UDP packet, which leaves from the namespace of its socket."""
        steps: list[Step] = []
        place = f"tunnel device {device.name} of {self._places.name(device.namespace)}"
        settings = device.vxlan
        try:
            if not device.up:
                raise _Stop("dropped", f"{device.name} is down")
            entries = self._kernel.forwarding(device, packet.eth_dst) or self._kernel.forwarding(device, _ANY_MAC)
            remotes = [IPv4Address(entry["dst"]) for entry in entries if "dst" in entry]
            if not remotes:
                name = self._names.mac(packet.eth_dst)
                raise _Stop("dropped", f"its forwarding table has no tunnel end for {name}")
            namespace = self._kernel.peer_namespace(device) or device.namespace
            for remote in remotes:
                outer = FiveTuple("udp", IPv4Address(settings["local"]), 0, remote, settings["port"])
                step = self._encapsulation_step(device, packet, outer, namespace)
                steps.append(step)
                wrapped = Packet(outer, ttl=settings.get("ttl") or INITIAL_TTL, inner=packet, vni=settings["id"])
                self._waiting.append(lambda wrapped=wrapped: self._originate(namespace, wrapped, True))  # type: ignore[misc]
        except _Stop as stop:
            self._end(stop, place, packet, device.namespace)
        self._hop(place, packet, steps)

    def _encapsulation_step(self, device: Interface, packet: Packet, outer: FiveTuple, namespace: str) -> Step:
        data = {
            "vni": device.vxlan["id"],
            "outer_source": str(outer.source),
            "outer_destination": str(outer.destination),
            "udp_port": outer.destination_port,
        }
        said = (
            f"VXLAN VNI {data['vni']}, {outer.source} -> {self._names.with_name(outer.destination)},"
            f" UDP port {outer.destination_port}, {VXLAN_OVERHEAD_BYTES} bytes more;"
            f" sent from {self._places.name(namespace)}"
        )
        return Step("encapsulation", said, data)

    def _leave_tunnel(self, steps: list[Step], namespace: str, packet: Packet, inner: Packet) -> None:
        """A VXLAN packet at its destination: to the device whose socket is here."""
        for switch in self._bridges:
            for device in self._kernel.interfaces(switch).values():
                settings = device.vxlan
                if (
                    settings.get("id") == packet.vni
                    and settings.get("port") == packet.tuple.destination_port
                    and self._kernel.peer_namespace(device) == namespace
                ):
                    steps.append(Step("decapsulation", f"VXLAN VNI {packet.vni}: unpacked", {"vni": packet.vni}))
                    self._waiting.append(lambda device=device: self._frame(device, inner))  # type: ignore[misc]
                    return
        where = f"UDP port {packet.tuple.destination_port}"
        raise _Stop("dropped", f"no VXLAN device with VNI {packet.vni} has a socket on {where} here")

    # -- telling ------------------------------------------------------------------------------------------------

    def _hop(self, place: str, packet: Packet, steps: list[Step]) -> None:
        self._hops.append(Hop(place, packet, tuple(steps)))

    def _end(self, stop: _Stop, place: str, packet: Packet, namespace: str) -> None:
        fate = "refused" if stop.fate == "refused" else "dropped"
        self._ends.append(End(fate, place, stop.reason, packet, namespace))  # type: ignore[arg-type]


def _route_data(decision: Decision) -> dict[str, object]:
    return {
        "type": decision.kind,
        "prefix": decision.prefix,
        "gateway": str(decision.gateway) if decision.gateway else None,
        "device": decision.device,
        "table": decision.table,
        "next_hops": [f"{gateway} dev {device}".strip() for gateway, device in decision.next_hops],
    }
