"""A built cluster: what measuring, the prompt and the tests do with it."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from testbed.cluster import identity
from testbed.cluster.confirm import NotConfirmed, wait_confirmed
from testbed.cluster.kinds import CONFIG_MAP
from testbed.cluster.objects import JsonObject, pod_key
from testbed.cluster.store import Store
from testbed.cluster.values import ClusterState, IPAddress, Mode
from testbed.cluster.view import cluster_state
from testbed.errors import RunError
from testbed.network import netlink, netns
from testbed.network.containers import Containers
from testbed.network.controller import ControllerProcess
from testbed.network.hosts import ClusterNet
from testbed.network.openvswitch import Datapath, VSwitch
from testbed.network.place import Place
from testbed.network.plan import Plan
from testbed.network.wiring import Wiring
from testbed.spec.endpoints import EndpointRef
from topologies.fabric import Fabric

# A bundle to each bridge takes milliseconds; this long only when something is broken. The first one waits for the
# controller's start, which takes 25 s in an emulated machine.
_CONFIRM_S = 60.0
_CONTROLLER_CHECK_S = 1.0


class Testbed:
    """One running cluster. Made by :func:`testbed.network.builder.build`, which also takes it down."""

    __test__ = False  # keeps pytest from collecting it

    def __init__(
        self,
        plan: Plan,
        *,
        store: Store,
        api_url: str,
        datapath: Datapath,
        wiring: Wiring,
        switches: Mapping[str, VSwitch],
        controller: ControllerProcess,
        places: Mapping[EndpointRef, Place],
        containers: Containers,
        net: ClusterNet,
    ) -> None:
        self.plan, self.store, self.api_url, self.datapath = plan, store, api_url, datapath
        self.switches, self.controller, self.net, self.places = switches, controller, net, places
        self.containers = containers
        self._wiring = wiring
        self._mode: Mode = plan.state.config.mode
        self._pod_mtu_bytes = plan.pod_mtu_bytes(self._mode)

    @property
    def fabric(self) -> Fabric:
        return self.plan.fabric

    @property
    def state(self) -> ClusterState:
        """The cluster network as the plan has it, in the current mode."""
        config = self.store.get(CONFIG_MAP, identity.CONFIG_NAME, identity.CONFIG_NAMESPACE)
        others = (wire for wire in self.plan.objects if wire["kind"] != "ConfigMap")
        return cluster_state((config, *others))

    # -- endpoints ----------------------------------------------------------------------------------------------

    def address(self, endpoint: EndpointRef) -> IPAddress:
        """The endpoint's address. Raises RunError when there is no such endpoint."""
        if endpoint.kind == "pod":
            key = f"{endpoint.namespace}/{endpoint.name}"
            for wire in self.plan.pods:
                if pod_key(wire) == key:
                    return ip_address(wire["status"]["podIP"])
        elif endpoint.name in self.fabric.element_by_name:
            address: IPAddress = self.fabric.address(endpoint.name).ip
            return address
        raise RunError(f"there is no {endpoint}")

    def place(self, endpoint: EndpointRef) -> Place:
        """Where the endpoint's programs run. Raises RunError when there is no such endpoint."""
        try:
            return self.places[endpoint]
        except KeyError:
            raise RunError(f"there is no {endpoint}") from None

    def namespace(self, endpoint: EndpointRef) -> str:
        """The endpoint's network namespace, a file in /run/netns of the box."""
        return self.place(endpoint).namespace

    def popen(self, endpoint: EndpointRef, argv: Sequence[str], **popen_kwargs: Any) -> subprocess.Popen[Any]:
        """Start a program in the endpoint's namespaces."""
        return self.place(endpoint).popen(argv, **popen_kwargs)

    # -- modes --------------------------------------------------------------------------------------------------

    def set_mode(self, mode: Mode, pod_mtu_bytes: int | None = None) -> None:
        """Switch the living network to a mode: routes, MTU, and the flows by one atomic bundle a bridge.

        ``pod_mtu_bytes`` overrides the mode's own MTU. Returns when every bridge has confirmed; raises RunError when
        one does not.
        """
        mtu_bytes = pod_mtu_bytes or self.plan.pod_mtu_bytes(mode)
        try:
            # What pods send meanwhile must fit into either mode: a smaller MTU comes before the switch, a larger after.
            if mtu_bytes < self._pod_mtu_bytes:
                self._set_pod_mtu(mtu_bytes)
            if mode != self._mode:
                self._change_mode(mode)
            if mtu_bytes > self._pod_mtu_bytes:
                self._set_pod_mtu(mtu_bytes)
        except netlink.NetlinkError as error:
            raise RunError(f"switching to {mode}: {error}") from error

    def _set_pod_mtu(self, mtu_bytes: int) -> None:
        self._wiring.set_pod_mtu(mtu_bytes)
        self._pod_mtu_bytes = mtu_bytes

    def _change_mode(self, mode: Mode) -> None:
        # The fabric's pod routes are there whenever some bridge may still, or already, rely on them. So pods reach
        # each other throughout, whatever mixture of modes the bridges are in meanwhile.
        if mode == "routed":
            self._wiring.change_mode(self._mode, mode)
            self._change_flows(mode)
        else:
            self._change_flows(mode)
            self._wiring.change_mode(self._mode, mode)
        self._mode = mode

    def _change_flows(self, mode: Mode) -> None:
        patch = {"data": {"mode": mode}}
        changed = self.store.patch(CONFIG_MAP, identity.CONFIG_NAME, patch, identity.CONFIG_NAMESPACE)
        self.wait_confirmed([changed])
        # The confirmed tables hold for new decisions; cached ones follow when they are revised. (Purging the caches
        # would be quicker, but Open vSwitch drops what arrives meanwhile.)
        with ThreadPoolExecutor(len(self.switches)) as pool:
            list(pool.map(lambda switch: switch.appctl("revalidator/wait"), self.switches.values()))

    def wait_confirmed(self, changed: Sequence[JsonObject]) -> None:
        """Wait until every bridge carries the flows of the changed objects. Raises RunError when one does not."""
        nodes = [node.name for node in self.plan.state.nodes]
        deadline = time.monotonic() + _CONFIRM_S
        while True:
            try:
                return wait_confirmed(self.store, nodes, changed, _CONTROLLER_CHECK_S)
            except NotConfirmed:
                # A controller that has died will confirm nothing; its own last words say more than the time-out.
                self.controller.check()
                if time.monotonic() > deadline:
                    raise

    # -- state of the running network ---------------------------------------------------------------------------

    def cool(self, *endpoints: EndpointRef) -> None:
        """Empty what a first packet finds empty: every bridge's flow cache, and the neighbour tables of the endpoints'
        namespaces, of the nodes and of the fabric (permanent entries stay, as in a real cluster)."""
        names = [name for name, element in self.fabric.element_by_name.items() if element.kind != "bridge"]
        names += [self.namespace(endpoint) for endpoint in endpoints]
        flushing = [
            subprocess.Popen(["ip", "-netns", name, "neigh", "flush", "all"], stderr=subprocess.DEVNULL)
            for name in dict.fromkeys(names)
        ]
        for switch in self.switches.values():
            switch.appctl("revalidator/purge")
        for process in flushing:
            process.wait()

    def uplinks(self) -> list[tuple[str, str, str]]:
        """(element, network namespace, interface) of every fabric interface that carries IP."""
        return [
            (name, name, end.interface)
            for name, ends in self.fabric.ends_by_element.items()
            for end in ends
            if end.address is not None
        ]

    def flow_counts(self) -> dict[str, int]:
        """Flows installed on each node's bridge."""
        return {name: switch.flow_count() for name, switch in self.switches.items()}

    def bridge_counters(self) -> dict[str, dict[str, int]]:
        """Per node: ports, packets through tunnel and gateway (as the bridge sees them), lost upcalls."""
        return {name: switch.counters() for name, switch in self.switches.items()}

    def describe(self) -> dict[str, Any]:
        """Facts for environment.json: versions, datapath, MTUs, offloads as they are now, ports per ovs-vswitchd."""
        first = next(iter(self.switches.values()))
        version = re.search(r"\d+\.\d+\.\d+", first.appctl("version"))
        return {
            "ovs_version": version[0] if version else "unknown",
            "datapath": self.datapath,
            "underlay_mtu_bytes": self.plan.state.config.underlay_mtu_bytes,
            "pod_mtu_bytes": {mode: self.plan.pod_mtu_bytes(mode) for mode in ("overlay", "routed")},
            "transmit_checksum_offload": self._offloads(),
            "ports_per_vswitchd": {name: len(switch.ports) for name, switch in self.switches.items()},
            "routes": "static",
            "vni": self.plan.state.config.vni,
        }

    def _offloads(self) -> dict[str, bool]:
        found = {}
        ends = [(node.name, identity.GATEWAY_INTERFACE) for node in self.plan.state.nodes]
        ends += [
            (identity.pod_namespace(pod.namespace, pod.name), identity.POD_INTERFACE_IN_POD)
            for pod in self.plan.state.pods
        ]
        with netns.home():
            for namespace, interface in ends:
                netns.enter(namespace)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as control:
                    found[f"{namespace}/{interface}"] = netlink.transmit_checksum(control, interface)
        return found

    def diagnostics(self) -> str:
        """Flows, routes, neighbours and logs: what a failed test prints."""
        parts = []
        for name, switch in self.switches.items():
            parts.append(f"== flows of {name}\n{switch.ofctl('--names', '--no-stats', 'dump-flows', identity.BRIDGE)}")
            log = (switch.directory / "vswitchd.log").read_text(errors="replace")
            parts.append(f"== ovs-vswitchd of {name}\n" + "\n".join(log.splitlines()[-15:]))
        for name, element in self.fabric.element_by_name.items():
            if element.kind != "bridge":
                for what in ("route", "neigh"):
                    done = subprocess.run(["ip", "-netns", name, what], capture_output=True, text=True, timeout=10)
                    parts.append(f"== {what} of {name}\n{done.stdout}")
        log_file = Path("/run/controller.log")
        if log_file.exists():
            parts.append("== controller\n" + "\n".join(log_file.read_text(errors="replace").splitlines()[-40:]))
        parts += self.containers.exited()
        return "\n".join(parts)
