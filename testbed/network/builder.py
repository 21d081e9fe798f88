"""Builds a plan inside the box and takes it down again."""

from __future__ import annotations

import gc
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.apiserver.server import ApiServer
from testbed.cluster import identity
from testbed.cluster.admission import cluster_admission
from testbed.cluster.api_service import API_PORT
from testbed.cluster.kinds import NODE
from testbed.cluster.loop_settings import LoopSettings
from testbed.cluster.loops import Loops
from testbed.cluster.namespaces import create_namespaces
from testbed.cluster.objects import natural_key
from testbed.cluster.store import Store
from testbed.errors import MachineError
from testbed.network import netns, node_services, openvswitch
from testbed.network.containers import LOGS, Containers
from testbed.network.controller import OPENFLOW_PORT, controller_process, proxy_process
from testbed.network.dns.cluster_dns import ClusterDns
from testbed.network.health_check import HealthChecks
from testbed.network.heap import use_one_arena
from testbed.network.heartbeats import Heartbeats
from testbed.network.ingress.loop import IngressLoop
from testbed.network.kubelet import Kubelet, Machinery
from testbed.network.live_state import LiveState
from testbed.network.load_balancer_routes import LoadBalancerRoutes
from testbed.network.log_times import LogTimes
from testbed.network.mininet_view import mininet_view
from testbed.network.node_status import reporting
from testbed.network.openvswitch import Datapath, VSwitch
from testbed.network.people_access import PeopleAccess
from testbed.network.place import Place
from testbed.network.places import make_places
from testbed.network.plan import Plan, make_plan
from testbed.network.pod_access import RunningPods
from testbed.network.service_agent import ServiceAgent
from testbed.network.testbed import Testbed
from testbed.network.uplinks import Uplinks
from testbed.network.wiring import CONTROLLER_ADDRESS, Wiring, switch_ports

if TYPE_CHECKING:
    from testbed.network.kubeconfig import Door
    from testbed.progress import Progress
    from testbed.spec.checked import CheckedExperiment
    from testbed.spec.models import Build

# Open vSwitch 3.1 reads the number of processors only after 10 s of uptime; started earlier, it loses every upcall of
# the kernel datapath.
_SETTLED_UPTIME_S = 10.0
LOOPBACK = "127.0.0.1"


def choose_datapath(wish: str) -> Datapath:
    """``auto``, ``kernel`` or ``user`` as Open vSwitch's own word. Raises MachineError when the kernel lacks it."""
    has_kernel = Path("/sys/module/openvswitch").exists()
    if wish == "kernel" and not has_kernel:
        raise MachineError("the kernel datapath was asked for, but the module is not loaded: modprobe openvswitch")
    return "system" if has_kernel and wish != "user" else "netdev"


@contextmanager
def build(checked: CheckedExperiment, build: Build, datapath: str, progress: Progress) -> Iterator[Testbed]:
    """A running cluster, made of one build of a checked experiment; only inside the box.

    ``datapath`` is auto, kernel or user. Raises RunError when something does not start, MachineError when the machine
    cannot do it.
    """
    with built(make_plan(checked, build), choose_datapath(datapath), progress) as testbed:
        yield testbed


@contextmanager
def built(plan: Plan, datapath: Datapath, progress: Progress, door: Door | None = None) -> Iterator[Testbed]:
    """A running cluster made of a plan. ``door``: where people outside the box reach its API."""
    progress.start("build", 5 + len(plan.state.nodes))
    use_one_arena()
    if datapath == "system":
        _wait_for_uptime()
    with ExitStack() as undo:
        store = Store(admission=cluster_admission(plan.state.config))
        for wire in plan.objects:
            store.create(reporting(wire) if wire["kind"] == NODE.name else wire)
        create_namespaces(store)
        server = undo.enter_context(_api_server(store))
        controller, proxy = controller_process(server.url), proxy_process(server.url)
        wiring = Wiring(plan, datapath)
        # The daemons take their time to end; meanwhile the wires are removed.
        ending = openvswitch.Ending()
        undo.callback(ending.wait)
        undo.callback(wiring.remove)
        wiring.make_management()
        # The controller takes about as long to start as the wires take to be made.
        undo.callback(controller.stop)
        undo.callback(proxy.stop)
        controller.start()
        # So does the parent of the pods' processes.
        containers = Containers()
        containers.start()
        people = None if door is None else undo.enter_context(PeopleAccess(door))
        log_times = undo.enter_context(LogTimes(LOGS))
        wiring.build(progress.advance)
        if people is not None and plan.state.nodes:
            people.serve_inside(_cluster_listener(plan))
        progress.advance("controller")
        controller.wait_listening()
        progress.advance("Open vSwitch")
        switches = {
            node.name: VSwitch(
                node.name, identity.switch_namespace(node.name), node.datapath_id, switch_ports(plan, node)
            )
            for node in plan.state.nodes
        }
        node_services.install_refusals(plan.state.nodes)
        if plan.state.config.proxy == "openflow":
            node_services.steer_node_ports(plan.state.nodes, True)
        else:
            proxy.start()
        openvswitch.start_all(list(switches.values()), datapath, f"tcp:{CONTROLLER_ADDRESS}:{OPENFLOW_PORT}")
        undo.callback(ending.kill, list(switches.values()))
        progress.advance("flows")
        places = make_places(plan)
        server.pods = pods = RunningPods(store, places, containers, log_times)
        undo.callback(lambda: _remove_places(places.values()))
        undo.callback(containers.stop)
        net = mininet_view(plan, places)
        undo.callback(net.stop_shells)
        nodes = dict(plan.state.node_by_name)
        loops = Loops(store, LoopSettings(api_service=door is not None))
        live, dns, ingress = LiveState(store), ClusterDns(store), IngressLoop(store)
        kubelet = Kubelet(store, Machinery(plan.state.config, nodes, wiring, switches, places, containers, net))
        heartbeats = Heartbeats(store, nodes, lambda: kubelet.is_running)
        health_checks = HealthChecks(
            lambda: (controller if live.current().config.proxy == "openflow" else proxy).is_alive
        )
        undo.callback(health_checks.stop)
        health_checks.start()
        agent = ServiceAgent(store, live, [LoadBalancerRoutes(plan.fabric, wiring).update, health_checks.update])
        testbed = Testbed(
            plan,
            store=store,
            api_url=server.url,
            datapath=datapath,
            wiring=wiring,
            switches=switches,
            controller=controller,
            proxy=proxy,
            places=places,
            containers=containers,
            net=net,
            live=live,
            loops=loops,
            dns=dns,
            ingress=ingress,
            kubelet=kubelet,
            heartbeats=heartbeats,
            agent=agent,
        )
        undo.callback(agent.stop)
        agent.start()
        undo.callback(dns.stop)
        dns.start()
        undo.callback(ingress.stop)
        ingress.start()
        undo.callback(kubelet.stop)
        undo.callback(loops.stop)
        loops.start()
        # A container may look for its Services as soon as it starts.
        testbed.wait_programmed()
        progress.advance("containers")
        kubelet.start()
        undo.callback(heartbeats.stop)
        heartbeats.start()
        uplinks = Uplinks(plan.uplinks, testbed.links_changed)
        undo.callback(uplinks.stop)
        uplinks.start()
        testbed.wait_at_rest()
        if people is not None:
            testbed.api_for_people, testbed.api_front = people.open(store, pods), people.front
        progress.advance()
        progress.finish()
        # What is there now stays: looking at it again and again would take tens of milliseconds in a large cluster,
        # just when something is being measured or changed.
        gc.collect()
        gc.freeze()
        yield testbed


def _remove_places(places: Iterable[Place]) -> None:
    for place in places:
        place.remove()


@contextmanager
def _api_server(store: Store) -> Iterator[ApiServer]:
    with ApiServer(store, socket.create_server((LOOPBACK, 0))) as server:
        yield server


def _cluster_listener(plan: Plan) -> socket.socket:
    """Where the first node has the API server, for the cluster's own Service (:mod:`testbed.cluster.api_service`)."""
    node = min(plan.state.nodes, key=lambda node: natural_key(node.name))
    family = socket.AF_INET6 if node.node_ip.version == 6 else socket.AF_INET
    with netns.entered(node.name):
        return socket.create_server((str(node.node_ip), API_PORT), family=family)


def _wait_for_uptime() -> None:
    while True:
        left = _SETTLED_UPTIME_S - float(Path("/proc/uptime").read_text().split()[0])
        if left <= 0:
            return
        time.sleep(left)
