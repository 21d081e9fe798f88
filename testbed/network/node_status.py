"""What a kubelet says of its node when it starts: that it is ready, and what runs there."""

from __future__ import annotations

import os
import platform
import time
from importlib.metadata import version

from testbed.apiserver.discovery import discovery_documents
from testbed.cluster.node_conditions import reported_conditions
from testbed.cluster.objects import JsonObject


def reporting(node: JsonObject) -> JsonObject:
    """A Node with the status that its kubelet reports, now and on this machine."""
    conditions = reported_conditions((), time.time())
    told = node["status"]
    resources = {part: {**told.get(part, {}), **_machine_resources()} for part in ("capacity", "allocatable")}
    return {**node, "status": {**told, **resources, "conditions": conditions, "nodeInfo": _node_info()}}


def _machine_resources() -> dict[str, str]:
    """What all nodes share: each could have the whole machine."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cpu": str(os.cpu_count() or 1), "memory": f"{memory_bytes // 1024}Ki"}


def _node_info() -> JsonObject:
    kubernetes = discovery_documents()["/version"]["gitVersion"]
    try:
        system = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        system = platform.system()
    machine = os.uname()
    return {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine, machine.machine),
        "bootID": "",
        "containerRuntimeVersion": f"testbed://{version('k8s-mininet-testbed')}",
        "kernelVersion": machine.release,
        "kubeProxyVersion": kubernetes,
        "kubeletVersion": kubernetes,
        "machineID": "",
        "operatingSystem": "linux",
        "osImage": system,
        "systemUUID": "",
    }
