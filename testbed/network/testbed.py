"""A built cluster: what measuring, the prompt and the tests do with it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Any

from testbed.apiserver.server import ApiServer
from testbed.cluster import identity
from testbed.cluster.confirm import NotConfirmed, wait_versions
from testbed.cluster.kinds import CONFIG_MAP, DEPLOYMENT, ENDPOINT_SLICE, NODE, POD, SERVICE, kind_of
from testbed.cluster.loops import Loops
from testbed.cluster.objects import JsonObject, object_name, object_namespace, pod_key, resource_version
from testbed.cluster.pod_facts import is_ready
from testbed.cluster.status import NotFound
from testbed.cluster.store import Store
from testbed.cluster.values import ClusterState, IPAddress, Mode, ProxyName
from testbed.errors import RunError
from testbed.network import netlink, netns, node_services
from testbed.network.api_process import ApiProcess
from testbed.network.containers import Containers
from testbed.network.dns.cluster_dns import ClusterDns
from testbed.network.heartbeats import Heartbeats
from testbed.network.hosts import ClusterNet
from testbed.network.ingress.loop import IngressLoop
from testbed.network.kubelet import Kubelet
from testbed.network.live_state import LiveState
from testbed.network.node_failure import NodeFailures
from testbed.network.openvswitch import Datapath, VSwitch, revise_cached_decisions
from testbed.network.place import Place
from testbed.network.plan import Plan
from testbed.network.service_agent import ServiceAgent
from testbed.network.wiring import Wiring
from testbed.spec.endpoints import EndpointRef
from topologies.fabric import Fabric

# A bundle to each bridge takes milliseconds; this long only when something is broken. The first one waits for the
# controller's start, which takes 25 s in an emulated machine.
_CONFIRM_S = 60.0
_CONTROLLER_CHECK_S = 1.0
_SETTLE_S = 60.0
_SETTLE_CHECK_S = 0.002
# Kinds of objects that flows and rules are made of, beside the ConfigMap with the settings.
_PROGRAMMED = (NODE, POD, SERVICE, ENDPOINT_SLICE)


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
        controller: ApiProcess,
        proxy: ApiProcess,
        places: Mapping[EndpointRef, Place],
        containers: Containers,
        net: ClusterNet,
        live: LiveState,
        loops: Loops,
        dns: ClusterDns,
        ingress: IngressLoop,
        kubelet: Kubelet,
        heartbeats: Heartbeats,
        agent: ServiceAgent,
    ) -> None:
        self.plan, self.store, self.api_url, self.datapath = plan, store, api_url, datapath
        self.switches, self.controller, self.net, self.places = switches, controller, net, places
        self.containers, self.proxy = containers, proxy
        self.api_for_people: ApiServer | None = None
        """The server behind the door that people use, if the cluster has one."""
        self.api_front: ApiProcess | None = None
        """The process that serves at this door, and passes on to that server."""
        self._wiring, self._live, self._loops, self._kubelet, self._agent = wiring, live, loops, kubelet, agent
        self._dns, self._ingress = dns, ingress
        self._failures = NodeFailures(store, kubelet, heartbeats, self._restore_routes)
        self._mode: Mode = plan.state.config.mode
        self._pod_mtu_bytes = plan.pod_mtu_bytes(self._mode)

    @property
    def fabric(self) -> Fabric:
        return self.plan.fabric

    @property
    def state(self) -> ClusterState:
        """The cluster network as it is now."""
        return self._live.current()

    # -- endpoints ----------------------------------------------------------------------------------------------

    def address(self, endpoint: EndpointRef) -> IPAddress:
        """The endpoint's address. Raises RunError when there is no such endpoint."""
        if endpoint.kind == "pod":
            with suppress(NotFound, KeyError):
                return ip_address(self.store.get(POD, endpoint.name, endpoint.namespace)["status"]["podIP"])
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
        self.wait_confirmed([self._change_settings({"mode": mode})])
        revise_cached_decisions(self.switches.values())

    def _change_settings(self, data: Mapping[str, str]) -> JsonObject:
        return self.store.patch(CONFIG_MAP, identity.CONFIG_NAME, {"data": data}, identity.CONFIG_NAMESPACE)

    # -- Services -----------------------------------------------------------------------------------------------

    def set_proxy(self, proxy: ProxyName) -> None:
        """Let the bridges' flows (``openflow``) or rules of the nodes' kernels balance the Services from here on.

        Returns when all of them have confirmed; raises RunError when one does not. Connections to Services that were
        made before are lost: each way has its own connection tracking.
        """
        before = self.state.config.proxy
        if proxy == before:
            return
        if proxy != "openflow" and not self.proxy.is_running:
            self.proxy.start()
        nodes = self.plan.state.nodes
        try:
            if before == "openflow":
                node_services.steer_node_ports(nodes, False)
            self.wait_confirmed([self._change_settings({"proxy": proxy})])
            if proxy == "openflow":
                node_services.steer_node_ports(nodes, True)
        except netlink.NetlinkError as error:
            raise RunError(f"switching to the proxy {proxy}: {error}") from error
        revise_cached_decisions(self.switches.values())
        # A connection whose end a bridge does not see would stay known there, open, for a day; and a client that comes
        # again from the same port would be taken for it.
        for switch in self.switches.values():
            switch.appctl("dpctl/flush-conntrack")

    def apply(self, objects: Iterable[JsonObject]) -> list[JsonObject]:
        """Create objects, or replace those that are there, and return them as stored.

        What the cluster has filled in before (addresses, status) stays where ``objects`` do not say otherwise. Raises
        the API's errors (:mod:`testbed.cluster.status`).
        """
        stored = []
        for wire in objects:
            kind = kind_of(wire)
            name, namespace = object_name(wire), object_namespace(wire)
            try:
                self.store.get(kind, name, namespace)
            except NotFound:
                stored.append(self.store.create(wire))
            else:
                stored.append(self.store.patch(kind, name, wire, namespace))
        return stored

    def scale(self, namespace: str, deployment: str, replicas: int) -> JsonObject:
        """Give a Deployment another number of replicas, and return it as stored. Raises NotFound."""
        return self.store.patch(DEPLOYMENT, deployment, {"spec": {"replicas": replicas}}, namespace)

    # -- failures -----------------------------------------------------------------------------------------------

    def kill_container(self, namespace: str, pod: str, container: str) -> None:
        """Send SIGKILL to a container's process. Raises RunError when it has none."""
        try:
            os.kill(self.containers.process(f"{namespace}/{pod}", container).pid, signal.SIGKILL)
        except (KeyError, ProcessLookupError):
            raise RunError(f"pod {namespace}/{pod} has no running container {container}") from None

    @property
    def stopped_nodes(self) -> frozenset[str]:
        """The nodes that are stopped now."""
        return self._failures.stopped

    @property
    def silent_nodes(self) -> frozenset[str]:
        """The nodes whose kubelet is not heard now: they are stopped, or have no link to the fabric."""
        return self._failures.silent

    def links_changed(self, node: str, up: frozenset[str]) -> None:
        """Only these interfaces of a node lead into the fabric from here on. Raises NetlinkError."""
        self._failures.links_changed(node, up)

    def _restore_routes(self, node: str, up: frozenset[str]) -> None:
        self._wiring.restore_routes(node, self._mode, up)

    def stop_node(self, name: str) -> None:
        """Let a node fail (:mod:`testbed.network.node_failure`). Raises RunError."""
        self._failures.stop(name)

    def start_node(self, name: str) -> None:
        """Let a stopped node come back; returns when the cluster has found out. Raises RunError."""
        self._failures.start(name)

    @property
    def controller_is_running(self) -> bool:
        """Whether the OpenFlow controller is meant to run now."""
        return self.controller.is_running

    def stop_controller(self) -> None:
        """End the OpenFlow controller, which nobody starts again meanwhile; the bridges keep their flows."""
        self.controller.stop()

    def start_controller(self) -> None:
        """Start the OpenFlow controller again; returns when bridges can connect, before they have."""
        self.controller.start()
        self.controller.wait_listening()

    # -- waiting ------------------------------------------------------------------------------------------------

    def wait_pods_ready(self, timeout_s: float = _SETTLE_S) -> None:
        """Wait until every pod is ready. Raises RunError naming those that are not."""
        deadline = time.monotonic() + timeout_s
        with self.store.watch(POD) as watch:
            while waiting := [pod_key(pod) for pod in self.store.list(POD).items if not is_ready(pod)]:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    causes = [*self._kubelet.failures, *self.containers.exited()]
                    raise RunError("; ".join([f"not ready within {timeout_s:g} s: {', '.join(waiting)}", *causes]))
                watch.next(left_s)

    def wait_settled(self, timeout_s: float = _SETTLE_S) -> None:
        """Wait until everything follows from the objects as they are: pods, endpoints, names, flows, rules, routes, and
        what the bridges decided before has been revised.

        Pods need not be ready (see :meth:`wait_pods_ready`). Raises RunError after ``timeout_s``.
        """
        self.wait_at_rest(timeout_s)
        revise_cached_decisions(self.switches.values())

    def wait_at_rest(self, timeout_s: float = _SETTLE_S) -> None:
        """The same, but for cached decisions: enough where no packet has been sent yet."""
        deadline = time.monotonic() + timeout_s
        while True:
            version = self.store.resource_version
            self._loops.wait_settled(max(0.1, deadline - time.monotonic()))
            if self._kubelet.settled() and self.store.resource_version == version:
                break
            if time.monotonic() > deadline:
                raise RunError(f"the cluster does not come to rest within {timeout_s:g} s")
            time.sleep(_SETTLE_CHECK_S)
        self.wait_programmed()
        for follower in (self._dns, self._ingress):
            follower.wait_settled(max(0.1, deadline - time.monotonic()))

    def wait_programmed(self) -> None:
        """Wait until bridges, kernels and fabric carry what the objects say now. Raises RunError when one does not."""
        self._agent.update()
        settings = self.store.get(CONFIG_MAP, identity.CONFIG_NAME, identity.CONFIG_NAMESPACE)
        versions = self.store.newest_versions(_PROGRAMMED)
        self._wait_versions({**versions, CONFIG_MAP.name: resource_version(settings)})

    def wait_confirmed(self, changed: Iterable[JsonObject]) -> None:
        """Wait until every bridge carries the flows of the changed objects, and every kernel the rules if they are
        what balances Services. Raises RunError when one does not."""
        versions: dict[str, int] = {}
        for wire in changed:
            versions[wire["kind"]] = max(versions.get(wire["kind"], 0), resource_version(wire))
        self._wait_versions(versions)

    def _wait_versions(self, versions: Mapping[str, int]) -> None:
        confirming = {identity.STATUS_NAME: self.controller}
        if self.proxy.is_running:
            confirming[identity.PROXY_STATUS_NAME] = self.proxy
        nodes = [node.name for node in self.plan.state.nodes]
        deadline = time.monotonic() + _CONFIRM_S
        for status_name, process in confirming.items():
            # The kernels' proxies know endpoints, not pods, and so confirm none.
            unknown = {POD.name} if status_name == identity.PROXY_STATUS_NAME else set()
            wanted = {kind: version for kind, version in versions.items() if kind not in unknown}
            while True:
                try:
                    wait_versions(self.store, nodes, wanted, _CONTROLLER_CHECK_S, status_name)
                    break
                except NotConfirmed:
                    # A process that has died will confirm nothing; its own last words say more than the time-out.
                    process.check()
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
            "proxy": self.state.config.proxy,
            "vni": self.plan.state.config.vni,
        }

    def _offloads(self) -> dict[str, bool]:
        found = {}
        ends = [(node.name, identity.GATEWAY_INTERFACE) for node in self.plan.state.nodes]
        ends += [
            (identity.pod_namespace(pod.namespace, pod.name), identity.POD_INTERFACE_IN_POD) for pod in self.state.pods
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
            parts.append(f"== groups of {name}\n{switch.ofctl('dump-groups', identity.BRIDGE)}")
            parts.append(f"== connections of {name}\n{switch.appctl('dpctl/dump-conntrack')}")
            log = (switch.directory / "vswitchd.log").read_text(errors="replace")
            parts.append(f"== ovs-vswitchd of {name}\n" + "\n".join(log.splitlines()[-15:]))
        for name, element in self.fabric.element_by_name.items():
            if element.kind != "bridge":
                for what in ("route", "neigh"):
                    done = subprocess.run(["ip", "-netns", name, what], capture_output=True, text=True, timeout=10)
                    parts.append(f"== {what} of {name}\n{done.stdout}")
        for process in (self.controller, self.proxy):
            if process.log.exists():
                lines = process.log.read_text(errors="replace").splitlines()
                parts.append(f"== {process.name}\n" + "\n".join(lines[-40:]))
        parts += self.containers.exited()
        return "\n".join(parts)
