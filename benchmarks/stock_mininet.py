"""The same cluster built by Mininet's own means: its hosts, its links, its Open vSwitch bridges.

The topology is the one that ours uses. Each node has an OVSBridge (stand-alone: no controller, no flows to wait for)
with a link to the node and to each of its pods, and the pods have their addresses and default routes. What ours has
besides (VXLAN devices, a switch namespace and an Open vSwitch of its own per node, a controller and its flows, /etc
files) Mininet is not asked for, and its one Open vSwitch runs before the clock does.
"""

from __future__ import annotations

import os
import resource
import subprocess
import time
from pathlib import Path

from mininet.net import Mininet
from mininet.node import OVSBridge

from benchmarks.gone import Sentinel
from benchmarks.ours import four_nodes
from testbed.network.builder import choose_datapath
from topologies.leaf_spine import LeafSpine

_RUN = Path("/run/openvswitch")
_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"


def build_and_remove(pods: int) -> dict[str, float]:
    """Seconds to build and to take down, by the same criterion as ours. Inside the box."""
    # Its own initialisation raises limits of the whole machine; it needs one of them, for its pseudo-terminals.
    Mininet.inited = True
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    daemons = _start_open_vswitch()
    topology = _topology(pods)
    started = time.perf_counter()
    net = Mininet(topo=topology, controller=None, build=False)
    net.build()
    net.start()
    ready = time.perf_counter()
    sentinel = Sentinel(spared=daemons)
    leaving = time.perf_counter()
    net.stop()
    sentinel.wait()
    return {"build": ready - started, "teardown": time.perf_counter() - leaving}


def _topology(pods: int) -> LeafSpine:
    plan = four_nodes(pods)
    datapath = "kernel" if choose_datapath("auto") == "system" else "user"
    topology = LeafSpine(leaves=2, spines=2, nodes_per_leaf=2)
    for node in plan.state.nodes:
        bridge = topology.addSwitch(f"b{node.datapath_id}", cls=OVSBridge, datapath=datapath)
        length = node.pod_cidr.prefixlen
        gateway = {"ip": f"{node.gateway_ip}/{length}"}
        topology.addLink(node.name, bridge, params1=gateway, addr1=node.gateway_mac)
        for pod in plan.state.pods_by_node[node.name]:
            address = {"ip": f"{pod.pod_ip}/{length}", "mac": pod.pod_mac}
            topology.addHost(pod.name, **address, defaultRoute=f"via {node.gateway_ip}")
            topology.addLink(pod.name, bridge)
    return topology


def _start_open_vswitch() -> list[int]:
    """The one Open vSwitch that Mininet expects, as the distribution's service starts it; its two process ids."""
    database = f"{_RUN}/conf.db"
    _run("ovsdb-tool", "create", database, _SCHEMA)
    _run("ovsdb-server", database, f"--remote=punix:{_RUN}/db.sock", "--detach", "--pidfile", "--log-file=/dev/null")
    _run("ovs-vsctl", "--no-wait", "init")
    kernel = choose_datapath("auto") == "system"
    own = () if kernel else ("--disable-system",)
    _run("ovs-vswitchd", f"unix:{_RUN}/db.sock", "--detach", "--pidfile", "--log-file=/dev/null", *own)
    return [int((_RUN / f"{name}.pid").read_text()) for name in ("ovsdb-server", "ovs-vswitchd")]


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=30, env={**os.environ, "OVS_RUNDIR": str(_RUN)})
