"""Services on whole clusters with the kernel's Open vSwitch, by flows and by IPVS, with SCTP beside TCP and UDP.

Not named ``test_*``, so that only ``make test-vm``, which brings a machine that has all of them, collects it.
"""

from __future__ import annotations

import pytest

from testbed.cluster.values import MODES, Mode, ProxyName
from testbed.network.testbed import Testbed
from tests.box.harness import run_in_box
from tests.box.service_cases import World, assert_spread, placed, ready
from tests.box.service_packets import run_tcp_and_udp_cases
from tests.box.service_traffic import ask, servers, spread
from tests.box.test_services import all_cases
from tests.vm.kernel_datapath import lookups

# Without KVM the processor is emulated, on a machine that may have other work.
_LIMIT_S = 800

# The flows are what depends on the datapath, and IPVS is what other machines have not; the rest is tested without this.
_PROXIES: tuple[ProxyName, ...] = ("openflow", "ipvs")

_PORTS = ({"name": "web", "protocol": "SCTP", "port": 80},)


def in_the_kernel(testbed: Testbed, world: World) -> None:
    """Every node's datapath is the kernel's, and lost nothing on the way to ``ovs-vswitchd``."""
    for name in testbed.switches:
        kind, _, lost = lookups(testbed, name)
        assert kind == "system" and not lost, (name, kind, lost)


def packets(testbed: Testbed, world: World) -> None:
    """What ordinary programs seldom send."""
    run_tcp_and_udp_cases(world)


def sctp(testbed: Testbed, world: World) -> None:
    """Associations through a cluster IP from every pod, and through a node port from outside."""
    everyone = list(world.pods)
    with servers() as running:
        for pod in world.pods.values():
            running.listen(pod.name, pod.namespace, str(pod.pod_ip), 8080, "SCTP")
        with placed(world, "sctp", ready(*everyone), _PORTS, type="NodePort") as service:
            for pod in world.pods.values():
                for _ in range(4):
                    answer = ask(pod.namespace, service.cluster_ip, 80, "SCTP")
                    # Whoever reaches itself sees another address.
                    assert (answer.seen == str(pod.pod_ip)) == (answer.server != pod.name), (pod.name, answer)
            client = world.pods[everyone[0]].namespace
            assert_spread(spread(client, service.cluster_ip, 80, 100, "SCTP"), everyone)
            for node in world.nodes.values():
                answer = ask(world.outside, str(node.node_ip), service.node_port(), "SCTP")
                assert answer.server in everyone and answer.seen != world.outside_ip, (node.name, answer)
            service.endpoints(ready(everyone[1]))
            assert set(spread(client, service.cluster_ip, 80, 20, "SCTP")) == {everyone[1]}


def overlay() -> None:
    all_cases("overlay", _PROXIES, "kernel", packets, sctp, in_the_kernel)


def routed() -> None:
    all_cases("routed", _PROXIES, "kernel", packets, sctp, in_the_kernel)


@pytest.mark.parametrize("mode", MODES)
def test_services_behave(mode: Mode) -> None:
    print(run_in_box(overlay if mode == "overlay" else routed, "root", timeout_s=_LIMIT_S))
