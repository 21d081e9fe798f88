"""A switch that no longer answers is noticed. Apart from the other tests of the controller because it takes seconds."""

from __future__ import annotations

import os
import signal

import pytest

from controllers.ryu_app.library import library_name
from tests.box.ovs_harness import cluster_objects, running_cluster, sealed, wait_until

pytestmark = pytest.mark.box


@sealed
def test_a_bridge_that_falls_silent_is_given_up_and_taken_back() -> None:
    with running_cluster(cluster_objects(2, 4), library_name()) as cluster:
        switch = cluster.switches["n2"]
        process = int((switch.directory / "vswitchd.pid").read_text())
        os.kill(process, signal.SIGSTOP)  # its kernel still acknowledges what is sent to it
        wait_until(lambda: cluster.status.get("n2.error") == "disconnected", "the silence is noticed")
        cluster.set_mode("routed")
        os.kill(process, signal.SIGCONT)
        cluster.confirm()
        cluster.assert_exact()
        wait_until(lambda: "n2.error" not in cluster.status, "the error is taken back")
