"""Variables, volumes, ports and programs of pods, from objects to values and files."""

from __future__ import annotations

import base64
import os
import platform
import signal
import subprocess
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from testbed.cluster.kinds import Kind
from testbed.errors import InputError
from testbed.network.containers import Containers
from testbed.network.pods.environment import NotConfigured, container_variables, quantity, service_variables
from testbed.network.pods.host_ports import host_ports, rules
from testbed.network.pods.pause import pause_commands
from testbed.network.pods.volumes import CannotMount, container_mounts, make_volumes, referenced, update_volumes
from testbed.spec.images import UnavailableImage, container_program, load_catalogue

OBJECTS: dict[tuple[str, str], dict[str, Any]] = {
    ("ConfigMap", "settings"): {"kind": "ConfigMap", "data": {"color": "blue", "not a name!": "x", "a.b": "c"}},
    ("Secret", "keys"): {"kind": "Secret", "data": {"password": base64.b64encode(b"sesame").decode()}},
}


def lookup(kind: Kind, name: str) -> dict[str, Any] | None:
    return OBJECTS.get((kind.name, name))


def pod(container: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "web", "namespace": "prod", "labels": {"app": "web", "tier": 'a"b'}},
        "spec": {"nodeName": "n1", "containers": [{"name": "main", **container}], **spec},
        "status": {"podIP": "10.244.0.2", "podIPs": [{"ip": "10.244.0.2"}], "hostIP": "192.168.1.11"},
    }


def variables(**container: Any) -> dict[str, str]:
    wire = pod(container)
    return container_variables(wire, wire["spec"]["containers"][0], lookup, {"WEB_SERVICE_HOST": "10.96.0.1"})


def test_variables_come_from_everywhere_and_refer_to_each_other() -> None:
    env = [
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "LABELS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels"}}},
        {"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "password"}}},
        {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu"}}},
        {"name": "MAYBE", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "x", "optional": True}}},
        {"name": "ALL", "value": "$(IP) $(PASSWORD) $(WEB_SERVICE_HOST) $(P_color) $$(IP)"},
    ]
    found = variables(
        env=env,
        envFrom=[{"configMapRef": {"name": "settings"}, "prefix": "P_"}],
        resources={"limits": {"memory": "64Mi", "cpu": "1500m"}},
    )
    assert found["ALL"] == "10.244.0.2 sesame 10.96.0.1 blue $(IP)"
    assert found["APP"] == "web" and found["LABELS"] == 'app="web"\ntier="a\\"b"\n'
    assert (found["MEMORY"], found["CPU"]) == ("64", "2")
    assert "MAYBE" not in found and "P_a.b" in found and "P_not a name!" not in found


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"configMapKeyRef": {"name": "none", "key": "x"}}, 'configmap "none" not found'),
        ({"secretKeyRef": {"name": "keys", "key": "x"}}, "couldn't find key x in Secret prod/keys"),
        ({"fieldRef": {"fieldPath": "spec.containers"}}, "unsupported fieldPath: spec.containers"),
    ],
)
def test_what_is_not_there_is_said(source: dict[str, Any], message: str) -> None:
    with pytest.raises(NotConfigured, match=message.replace("(", "\\(")):
        variables(env=[{"name": "A", "valueFrom": source}])


def test_services_are_variables_as_docker_links_were() -> None:
    service = {
        "metadata": {"name": "my-db"},
        "spec": {"clusterIP": "10.96.0.5", "ports": [{"name": "sql", "port": 5432}, {"port": 53, "protocol": "UDP"}]},
    }
    headless = {"metadata": {"name": "ring"}, "spec": {"clusterIP": "None", "ports": [{"port": 1}]}}
    found = service_variables([service, headless])
    assert found["MY_DB_SERVICE_HOST"] == "10.96.0.5" and found["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert found["MY_DB_PORT"] == "tcp://10.96.0.5:5432" and found["MY_DB_PORT_53_UDP"] == "udp://10.96.0.5:53"
    assert not any(name.startswith("RING") for name in found)


@pytest.mark.parametrize(("text", "value"), [("500m", 0.5), ("64Mi", 2**26), ("1e3", 1000), ("2k", 2000)])
def test_quantities(text: str, value: float) -> None:
    assert quantity(text) == pytest.approx(value)


def test_a_new_version_of_a_volume_comes_all_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = {"name": "v", "configMap": {"name": "settings", "items": [{"key": "color", "path": "in/color"}]}}
    wire = pod({}, volumes=[volume])
    make_volumes(wire, tmp_path, lookup)
    first = (tmp_path / "v" / "..data").resolve()
    assert (tmp_path / "v/in/color").read_text() == "blue"
    update_volumes(wire, tmp_path, lookup)
    assert (tmp_path / "v" / "..data").resolve() == first, "nothing has changed"
    monkeypatch.setitem(OBJECTS, ("ConfigMap", "settings"), {"kind": "ConfigMap", "data": {"color": "green"}})
    update_volumes(wire, tmp_path, lookup)
    assert (tmp_path / "v/in/color").read_text() == "green"
    assert not first.exists()
    monkeypatch.delitem(OBJECTS, ("ConfigMap", "settings"))
    update_volumes(wire, tmp_path, lookup)
    assert (tmp_path / "v/in/color").read_text() == "green", "what is missing now stays as it was"


def test_volumes_of_several_sources_and_modes(tmp_path: Path) -> None:
    sources = [
        {"secret": {"name": "keys"}},
        {"configMap": {"name": "settings", "items": [{"key": "color", "path": "color", "mode": 0o400}]}},
        {"downwardAPI": {"items": [{"path": "name", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    wire = pod({}, volumes=[{"name": "all", "projected": {"sources": sources}}, {"name": "empty", "emptyDir": {}}])
    make_volumes(wire, tmp_path, lookup)
    assert {name: (tmp_path / "all" / name).read_text() for name in ("password", "color", "name")} == {
        "password": "sesame",
        "color": "blue",
        "name": "web",
    }
    assert (tmp_path / "all/color").stat().st_mode & 0o777 == 0o400
    assert (tmp_path / "empty").is_dir()
    assert sorted((kind.name, name) for kind, name in referenced(wire)) == [
        ("ConfigMap", "settings"),
        ("Secret", "keys"),
    ]


def test_mounts_stay_within_their_volumes(tmp_path: Path) -> None:
    wire = pod({}, volumes=[{"name": "data", "emptyDir": {}}])
    make_volumes(wire, tmp_path, lookup)
    (tmp_path / "data" / "out").symlink_to("/etc")

    def mounts(**mount: Any) -> list[tuple[str, str, bool]]:
        return container_mounts(wire, {"volumeMounts": [{"name": "data", **mount}]}, tmp_path, {"POD": "web"})

    assert mounts(mountPath="/x//y/") == [(str(tmp_path / "data"), "/x/y", False)]
    assert mounts(mountPath="/x", subPathExpr="of-$(POD)", readOnly=True) == [
        (str(tmp_path / "data/of-web"), "/x", True)
    ]
    for sub_path in ("../etc", "/etc", "out"):
        with pytest.raises(CannotMount):
            mounts(mountPath="/x", subPath=sub_path)
    with pytest.raises(CannotMount, match="nfs"):
        make_volumes(pod({}, volumes=[{"name": "n", "nfs": {}}]), tmp_path, lookup)


def test_the_machines_disk_is_only_read_and_what_it_lacks_is_the_nodes_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("testbed.network.pods.volumes.BOXES_OWN", tmp_path / "box")
    monkeypatch.setattr("testbed.network.pods.volumes.NODE_FILES", tmp_path / "box" / "node-files")
    machine = tmp_path / "machine"
    machine.mkdir()
    missing = tmp_path / "nowhere" / "data"
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("there", "own")]
    wire = pod(
        {"volumeMounts": mounts},
        nodeName="n1",
        volumes=[
            {"name": "there", "hostPath": {"path": str(machine), "type": "Directory"}},
            {"name": "own", "hostPath": {"path": str(missing), "type": "DirectoryOrCreate"}},
        ],
    )
    make_volumes(wire, tmp_path / "pod", lookup)
    (container,) = wire["spec"]["containers"]
    own = tmp_path / "box" / "node-files" / "n1" / str(missing).lstrip("/")
    assert container_mounts(wire, container, tmp_path / "pod", {}) == [
        (str(machine), "/there", True),
        (str(own), "/own", False),
    ]
    assert own.is_dir() and not missing.parent.exists()
    mounts[0]["subPath"] = "new"
    with pytest.raises(CannotMount, match="can only be read"):
        container_mounts(wire, container, tmp_path / "pod", {})
    assert not (machine / "new").exists()


def test_ports_of_the_node_are_rules_of_its_kernel() -> None:
    ports = [{"containerPort": 80, "hostPort": 8080}, {"containerPort": 53, "hostPort": 53, "protocol": "UDP"}]
    found = host_ports(pod({"ports": [*ports, {"containerPort": 81}]}))
    text = rules(found, ip_network("10.244.0.0/16"))
    assert "tcp dport 8080 dnat to 10.244.0.2:80" in text and "udp dport 53 dnat to 10.244.0.2:53" in text
    assert ":81" not in text
    assert host_ports(pod({"ports": ports}, hostNetwork=True)) == []
    assert rules([], ip_network("10.244.0.0/16")).count("\n") == 2, "nothing is left but the end of the table"


def test_each_log_has_a_name_that_a_file_may_have() -> None:
    key = f"{'n' * 63}/{'p' * 253}"
    names = {Containers.log(key, name, previous).name for name in ("a" * 63, "b") for previous in (False, True)}
    assert len(names) == 4 and all(len(name) <= 255 for name in names)
    assert Containers.log("default/web", "main").name == "default_web_main.log"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_pause_program_waits_until_it_is_ended(tmp_path: Path, number: signal.Signals) -> None:
    command, _ = pause_commands(tmp_path / "pause", tmp_path / "pause")
    with subprocess.Popen(command) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2)
        memory = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
        process.send_signal(number)
        assert process.wait(5) == 0, "as PID 1, too, which no signal ends by itself"
    if platform.machine() in ("x86_64", "aarch64"):
        assert int(memory.partition("\nPss:")[2].split()[0]) < 64, "KiB"


def test_a_catalogue_of_the_users_goes_before_the_testbeds(tmp_path: Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text('example/clock: {about: the time, args: [sleep, "1"]}\nnginx: {entrypoint: [my-nginx]}\n')
    images = load_catalogue(file)
    assert images["example/clock"].args == ("sleep", "1")
    assert images["nginx"].entrypoint == ("my-nginx",)
    assert "busybox" in images
    file.write_text('Bad Name: {args: [x]}\nempty: {}\nodd: {args: x, entrypont: [y], process: "no"}\nlist: [a]\n')
    with pytest.raises(InputError) as caught:
        load_catalogue(_again(file))
    fields = sorted(problem.field for problem in caught.value.problems)
    assert fields == ['["Bad Name"]', "empty", "list", "odd.args", "odd.entrypont", "odd.process"]


def _again(file: Path) -> Path:
    """The same text by another name: a catalogue that was read is kept."""
    other = file.with_name("other.yaml")
    other.write_text(file.read_text())
    return other


def test_an_image_without_its_program_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(UnavailableImage, match="apt-get install redis-server"):
        container_program({"image": "redis:7"}, {})
    with pytest.raises(UnavailableImage, match=r"docs/pods\.md"):
        container_program({"image": "example.org/none:1"}, {})
    with pytest.raises(
        UnavailableImage, match=r'^image example\.org/ngnix:1 has no program here \(did you mean "nginx"\?\)'
    ):
        container_program({"image": "example.org/ngnix:1"}, {})
    assert container_program({"image": "pause"}, {}) == []
