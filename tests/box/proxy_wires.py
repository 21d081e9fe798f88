"""Two nodes, two pods on each, and a host outside, wired for the tests of the kernel proxies alone, without a bridge.

Each node routes to its pods one by one, so that every packet passes its kernel.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from testbed.apiserver.server import ApiServer
from testbed.cluster import identity
from testbed.cluster.assign import EdgeNode, assign
from testbed.cluster.confirm import wait_confirmed
from testbed.cluster.kinds import CONFIG_MAP
from testbed.cluster.objects import JsonObject
from testbed.cluster.service_allocation import service_admission
from testbed.cluster.store import Store
from testbed.cluster.values import NetworkConfig, NodeNetwork, ProxyName
from testbed.cluster.view import cluster_state
from testbed.network.netns import entered
from tests.box.clusters import pod
from tests.box.ovs_harness import wait_until
from tests.box.service_cases import Pod, World

LAN = IPv4Network("192.168.1.0/24")
OUTSIDE, OUTSIDE_IP = "out", str(LAN[100])
_NOBODY = LAN[250]
_PODS = {"a": "n1", "b": "n1", "c": "n2", "d": "n2"}
_CONFIRM_S = 30
# ``python -m testbed.proxy`` that says, at a signal, where its threads are.
_WITH_LAST_WORDS = """\
import faulthandler, runpy, signal
faulthandler.register(signal.SIGUSR1)
runpy.run_module("testbed.proxy", run_name="__main__")
"""


def kernel_proxies() -> list[ProxyName]:
    """Those that this machine's kernel has, as it is now: a module that is not loaded is not there."""
    has_ipvs = Path("/proc/net/ip_vs").exists() and Path("/proc/sys/net/ipv4/vs/conntrack").exists()
    return ["iptables", "nftables", "ipvs"] if has_ipvs else ["iptables", "nftables"]


def ip_batch(namespace: str, *lines: str) -> None:
    """Several commands of iproute2's ``ip`` in a namespace ("" is the box's own)."""
    where = ["-netns", namespace] if namespace else []
    subprocess.run(["ip", *where, "-batch", "-"], input="\n".join(lines) + "\n", text=True, check=True, timeout=20)


def _wire(nodes: Sequence[NodeNetwork], pods: Sequence[Pod], config: NetworkConfig) -> None:
    ends = {node.name: node.node_ip for node in nodes} | {OUTSIDE: ip_address(OUTSIDE_IP)}
    ip_batch("", *(f"netns add {name}" for name in (*ends, *(pod.namespace for pod in pods))))
    ip_batch("", "link add lan type bridge", "link set lan up")
    for name, address in ends.items():
        ip_batch("", f"link add up-{name} type veth peer name eth0 netns {name}", f"link set up-{name} master lan up")
        ip_batch(name, "link set lo up", "link set eth0 up", f"address add {address}/24 dev eth0")
    for node in nodes:
        with entered(node.name):
            Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
            # Otherwise a client gets one ICMP error a second, however often it is refused.
            Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text("0")
        others = [other for other in nodes if other is not node]
        ip_batch(
            node.name,
            f"address add {node.gateway_ip}/32 dev lo",
            *(f"route add {other.pod_cidr} via {other.node_ip} src {node.gateway_ip}" for other in others),
            # A Service's address leads nowhere unless a rule translates it.
            *(f"route add {cidr} via {_NOBODY}" for cidr in (config.service_cidr, config.load_balancer_cidr)),
        )
    for each in pods:
        gateway = next(node.gateway_ip for node in nodes if node.name == each.node_name)
        ip_batch(
            each.node_name,
            f"link add pod-{each.name} type veth peer name eth0 netns {each.namespace}",
            f"link set pod-{each.name} up",
            f"route add {each.pod_ip}/32 dev pod-{each.name} src {gateway}",
        )
        ip_batch(
            each.namespace,
            "link set lo up",
            "link set eth0 up",
            f"address add {each.pod_ip}/32 dev eth0",
            f"route add {gateway} dev eth0",
            f"route add default via {gateway}",
        )
    ip_batch(OUTSIDE, f"route add {config.load_balancer_cidr} via {nodes[0].node_ip}")


@contextmanager
def api(store: Store) -> Iterator[str]:
    """The API's URL."""
    with ApiServer(store, socket.create_server(("127.0.0.1", 0))) as server:
        yield server.url


@contextmanager
def proxy_process(url: str, environment: Mapping[str, str] | None = None) -> Iterator[None]:
    """The proxies, killed at the end; what they logged is printed."""
    log = Path("/run/proxy.log")
    with log.open("wb") as file:
        argv = [sys.executable, "-c", _WITH_LAST_WORDS, "--api", url]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=file, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n", log.read_text()
        try:
            yield
        except BaseException:
            _say_where(process, log)
            raise
    finally:
        process.kill()
        process.wait()
        print(log.read_text(), flush=True)


def _say_where(process: subprocess.Popen[bytes], log: Path) -> None:
    """Where each thread of the proxies is, and each of their commands, into the log: what a hang leaves to be read."""
    if process.poll() is None:
        size = log.stat().st_size
        process.send_signal(signal.SIGUSR1)
        wait_until(lambda: log.stat().st_size > size, "where the proxies are")
        subprocess.run(["ps", "-eo", "pid,ppid,stat,wchan:32,etime,args"], check=False, timeout=10)


def confirm_within(world: World, changed: Iterable[JsonObject], timeout_s: float) -> None:
    """Wait until all nodes have the rules for what changed. Raises NotConfirmed."""
    wait_confirmed(world.store, world.nodes, changed, timeout_s, identity.PROXY_STATUS_NAME)


def set_proxy(world: World, proxy: ProxyName) -> None:
    """Change the proxy, and wait until all nodes have its rules."""
    patch = {"data": {"proxy": proxy}}
    world.confirm([world.store.patch(CONFIG_MAP, identity.CONFIG_NAME, patch, identity.CONFIG_NAMESPACE)])


@contextmanager
def proxy_world(proxy: ProxyName) -> Iterator[tuple[World, str]]:
    """The wires with a store and its API (whose URL is the second value); proxies are still to be started."""
    config = NetworkConfig(mode="routed", proxy=proxy)
    store = Store(admission=service_admission(config))
    edges = [EdgeNode("n1", LAN[11], location=""), EdgeNode("n2", LAN[12], location="")]
    objects = assign(edges, config, 24, [pod(name, node) for name, node in _PODS.items()])
    for wire in objects:
        store.create(wire)
    state = cluster_state(objects)
    pods = [Pod(each.name, each.node_name, each.pod_ip, f"p-{each.name}") for each in state.pods]
    _wire(state.nodes, pods, config)

    def confirm(changed: Sequence[JsonObject]) -> None:
        wait_confirmed(store, state.node_by_name, changed, _CONFIRM_S, identity.PROXY_STATUS_NAME)

    with ExitStack() as opened:
        url = opened.enter_context(api(store))
        by_name = {each.name: each for each in pods}
        yield World(store, state.node_by_name, by_name, OUTSIDE, OUTSIDE_IP, confirm, lambda: None), url
