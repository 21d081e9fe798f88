"""A cluster that is kept running for people: built in its box, made known to ``testbed exec``, ended on request."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Container
from contextlib import AbstractContextManager, ExitStack
from typing import TYPE_CHECKING

from testbed.doctor.experiment_needs import experiment_needs
from testbed.doctor.facts import DatapathWish
from testbed.doctor.needs import require
from testbed.doctor.trials import use_system_directories
from testbed.errors import TestbedError
from testbed.network.box import run_sealed
from testbed.network.builder import built, choose_datapath
from testbed.network.enter import API_URL_FILE
from testbed.network.hosts import ClusterCLI
from testbed.network.places import make_places
from testbed.network.plan import Plan, make_plan
from testbed.network.registry import Running, registered, running_clusters
from testbed.progress import open_progress
from testbed.views.cluster import network_line, nodes_table, outside_table, pods_table, services_table

if TYPE_CHECKING:
    from testbed.network.testbed import Testbed
    from testbed.spec.checked import CheckedExperiment

_DONE = b"\n"
_SHOWN_SERVICES = 30
_HINT = "Enter it from another terminal: testbed exec POD|node/NODE|ext/HOST -- CMD. Ctrl-C ends it."


def keep_running(checked: CheckedExperiment, datapath: DatapathWish, *, prompt: bool) -> int:
    """Build the experiment's first cluster and keep it until Ctrl-C, SIGTERM or the end of the prompt; exit status.

    Raises MachineError when this machine cannot do it.
    """
    use_system_directories()
    require(experiment_needs(checked, datapath, probes=False))
    plan = make_plan(checked, checked.experiment.builds[0])
    name = free_name(checked.experiment.name, {cluster.name for cluster in running_clusters()})
    outside, inside = socket.socketpair()
    with outside, inside, ExitStack() as stack:

        def make_known(init_pid: int) -> None:
            inside.close()  # the box's own copy is then the only one, so its end is noticed
            cluster = registered(name, init_pid, make_places(plan))
            thread = threading.Thread(target=_register, args=(stack, outside, cluster))
            thread.start()
            stack.callback(thread.join)

        return run_sealed(lambda: _serve(plan, datapath, prompt, inside), make_known)


def free_name(wish: str, taken: Container[str]) -> str:
    """``wish``, or the first of ``wish-2``, ``wish-3`` ... that is not taken."""
    name, number = wish, 1
    while name in taken:
        number += 1
        name = f"{wish}-{number}"
    return name


def overview(testbed: Testbed) -> str:
    """What is there: mode and proxy; nodes, outside hosts, pods and Services with their addresses."""
    state = testbed.state
    tables = (
        network_line(state),
        nodes_table(state, testbed.fabric),
        outside_table(testbed.fabric),
        pods_table(state),
        services_table(state, most=_SHOWN_SERVICES),
    )
    return "\n".join(table for table in tables if table)


def _register(stack: ExitStack, box: socket.socket, cluster: AbstractContextManager[Running]) -> None:
    """Outside the box: make the cluster known once it is built, and tell the box that it is."""
    if not box.recv(1):
        return  # the box ended before the cluster was built
    try:
        stack.enter_context(cluster)
    except (TestbedError, OSError) as error:
        sys.stderr.write(f"testbed exec will not find this cluster: {error}\n")
    box.sendall(_DONE)


def _serve(plan: Plan, datapath: DatapathWish, prompt: bool, outside: socket.socket) -> int:
    """The worker inside the box. Returns when it is told to end; an interrupt while building is the caller's."""
    with built(plan, choose_datapath(datapath), open_progress()) as testbed:
        API_URL_FILE.write_text(testbed.api_url)
        outside.sendall(_DONE)
        outside.recv(1)
        sys.stdout.write(f"\n{overview(testbed)}\n")
        if prompt:
            _give_prompt(testbed)
        else:
            sys.stdout.write(_HINT + "\n")
            sys.stdout.flush()
            _wait_for_the_end()
    return 0


def _give_prompt(testbed: Testbed) -> None:
    # Mininet's prompt takes every KeyboardInterrupt for itself, so the other signals have to end it differently.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    try:
        ClusterCLI(testbed.net)
    except SystemExit:
        sys.stdout.write("\n")


def _wait_for_the_end() -> None:
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        sys.stdout.write("\n")
