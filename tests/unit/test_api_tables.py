"""Tables: the cells of every kind, and the status of a Pod as Kubernetes shows it."""

from __future__ import annotations

import time

import pytest

from testbed.apiserver.tables.columns import duration
from testbed.apiserver.tables.pods import summary
from testbed.apiserver.tables.table import TableForm
from testbed.cluster.kinds import KINDS, kind_of
from testbed.cluster.status import BadRequest

NOW = 1_795_200_000.0
HOUR_AGO = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(NOW - 3600))


@pytest.fixture(autouse=True)
def _at_that_time(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: NOW)


def obj(api_version, kind, name="a", **parts):
    metadata = {"name": name, "creationTimestamp": HOUR_AGO, **parts.pop("metadata", {})}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **parts}


def row(wire):
    """Columns and cells by their name."""
    table = TableForm(kind_of(wire), "v1", "").table([wire], {})
    names = [column["name"] for column in table["columnDefinitions"]]
    return dict(zip(names, table["rows"][0]["cells"], strict=True))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((-5, "<invalid>"), (-0.5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (185, "3m5s"), (600, "10m")),
        *((3 * 3600 - 1, "179m"), (3 * 3600, "3h"), (3 * 3600 + 61, "3h1m"), (8 * 3600, "8h"), (47 * 3600, "47h")),
        *((48 * 3600, "2d"), (49 * 3600, "2d1h"), (8 * 86400, "8d"), (729 * 86400, "729d")),
        *((730 * 86400, "2y"), (731 * 86400, "2y1d"), (3000 * 86400, "8y")),
    ],
)
def test_lengths_of_time(seconds, text):
    assert duration(seconds) == text


def container(name="c", ready=False, restarts=0, **state):
    return {"name": name, "ready": ready, "restartCount": restarts, "state": state}


def pod(*statuses, init=(), phase="Running", deleted=False, count=None, conditions=(), **status):
    metadata = {"name": "p", **({"deletionTimestamp": HOUR_AGO} if deleted else {})}
    spec = {
        "containers": [{"name": f"c{n}"} for n in range(len(statuses) if count is None else count)],
        "initContainers": [{"name": f"i{n}"} for n in range(len(init))],
    }
    told = {"phase": phase, "containerStatuses": list(statuses), "initContainerStatuses": list(init), **status}
    told["conditions"] = [{"type": name, "status": "True"} for name in conditions]
    return {"metadata": metadata, "spec": spec, "status": told}


RUNNING = {"running": {}}
DONE = {"terminated": {"exitCode": 0, "reason": "Completed"}}


@pytest.mark.parametrize(
    ("wire", "ready", "status"),
    [
        (pod(count=1, phase="Pending"), "0/1", "Pending"),
        (pod(container(waiting={"reason": "ContainerCreating"}), phase="Pending"), "0/1", "ContainerCreating"),
        (pod(container(ready=True, **RUNNING)), "1/1", "Running"),
        (pod(container(ready=True, **RUNNING), container(**RUNNING)), "1/2", "Running"),
        (pod(container(waiting={"reason": "CrashLoopBackOff"})), "0/1", "CrashLoopBackOff"),
        (pod(container(waiting={"reason": "ErrImagePull"}), phase="Pending"), "0/1", "ErrImagePull"),
        (pod(container(terminated={"exitCode": 3}), phase="Failed"), "0/1", "ExitCode:3"),
        (pod(container(terminated={"exitCode": 137, "signal": 9}), phase="Failed"), "0/1", "Signal:9"),
        (pod(container(terminated={"exitCode": 1, "reason": "Error"}), phase="Failed"), "0/1", "Error"),
        (pod(container(**DONE), phase="Succeeded"), "0/1", "Completed"),
        (pod(container(**DONE), container(ready=True, **RUNNING), conditions=["Ready"]), "1/2", "Running"),
        (pod(container(**DONE), container(ready=True, **RUNNING)), "1/2", "NotReady"),
        (pod(count=1, init=[container(**RUNNING), container()], phase="Pending"), "0/1", "Init:0/2"),
        (pod(count=1, init=[container(**DONE), container(**RUNNING)], phase="Pending"), "0/1", "Init:1/2"),
        (pod(count=1, init=[container(terminated={"exitCode": 2})]), "0/1", "Init:ExitCode:2"),
        (pod(count=1, init=[container(waiting={"reason": "CrashLoopBackOff"})]), "0/1", "Init:CrashLoopBackOff"),
        (pod(container(ready=True, **RUNNING), deleted=True), "1/1", "Terminating"),
        (pod(container(**DONE), phase="Succeeded", deleted=True), "0/1", "Completed"),
        (pod(count=1, phase="Failed", reason="Evicted"), "0/1", "Evicted"),
    ],
)
def test_the_status_of_a_pod(wire, ready, status):
    brief = summary(wire)
    assert (f"{brief.ready}/{brief.total}", brief.status) == (ready, status)


def test_restarts_say_when_the_last_one_was():
    again = {**container(ready=True, restarts=3, **RUNNING), "lastState": {"terminated": {"finishedAt": HOUR_AGO}}}
    wire = obj("v1", "Pod", **{k: v for k, v in pod(again).items() if k != "metadata"})
    assert row(wire)["Restarts"] == "3 (60m ago)"


WEB = {"containers": [{"name": "c", "image": "i:1"}, {"name": "d", "image": "j"}]}
SELECTOR = {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "x", "operator": "In", "values": ["1", "2"]}]}
OWNER = {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": True}
UDP_PORT = {"port": 53, "nodePort": 30053, "protocol": "UDP"}
ADDRESSES = [{"ip": f"10.0.0.{n}"} for n in range(5)]


@pytest.mark.parametrize(
    ("wire", "cells"),
    [
        (
            obj(
                *("apps/v1", "Deployment"),
                spec={"replicas": 3, "selector": SELECTOR, "template": {"spec": WEB}},
                status={"readyReplicas": 1, "updatedReplicas": 2, "availableReplicas": 1},
            ),
            "a 1/3 2 1 60m c,d i:1,j app=web,x_in_(1,2)",
        ),
        (obj("apps/v1", "ReplicaSet", spec={"replicas": 2}, status={"replicas": 1}), "a 2 1 0 60m   <none>"),
        (obj("apps/v1", "StatefulSet", spec={}, status={"readyReplicas": 1}), "a 1/1 60m  "),
        (
            obj("apps/v1", "DaemonSet", status={"desiredNumberScheduled": 2, "numberReady": 1}),
            "a 2 0 1 0 0 <none> 60m   <none>",
        ),
        (
            obj("batch/v1", "Job", spec={"completions": 2}, status={"succeeded": 1, "startTime": HOUR_AGO}),
            "a Running 1/2 60m 60m   <none>",
        ),
        (
            obj("batch/v1", "Job", spec={}, status={"conditions": [{"type": "Complete", "status": "True"}]}),
            "a Complete 0/1  60m   <none>",
        ),
        (
            obj("v1", "Service", spec={"clusterIP": "10.96.0.9", "ports": [{"port": 80}], "selector": {"a": "b"}}),
            "a ClusterIP 10.96.0.9 <none> 80/TCP 60m a=b",
        ),
        (
            obj(
                "v1",
                "Service",
                spec={"type": "NodePort", "ports": [{"port": 53, "nodePort": 30053, "protocol": "UDP"}]},
            ),
            "a NodePort <none> <none> 53:30053/UDP 60m <none>",
        ),
        (obj("v1", "Service", spec={"type": "LoadBalancer"}), "a LoadBalancer <none> <pending> <none> 60m <none>"),
        (
            obj("v1", "Service", spec={"type": "ExternalName", "externalName": "x.org"}),
            "a ExternalName <none> x.org <none> 60m <none>",
        ),
        (
            obj(
                "v1",
                "Endpoints",
                subsets=[{"addresses": [{"ip": f"10.0.0.{n}"} for n in range(5)], "ports": [{"port": 8}]}],
            ),
            "a 10.0.0.0:8,10.0.0.1:8,10.0.0.2:8_+_2_more... 60m",
        ),
        (
            obj(
                *("discovery.k8s.io/v1", "EndpointSlice"),
                addressType="IPv4",
                ports=[{"port": 8}],
                endpoints=[{"addresses": ["10.0.0.1"]}],
            ),
            "a IPv4 8 10.0.0.1 60m",
        ),
        (
            obj(
                *("networking.k8s.io/v1", "Ingress"),
                spec={"ingressClassName": "nginx", "rules": [{"host": "x.org"}, {}], "tls": [{}]},
                status={"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
            ),
            "a nginx x.org 1.2.3.4 80,_443 60m",
        ),
        (obj("networking.k8s.io/v1", "Ingress"), "a <none> *  80 60m"),
        (
            obj(
                *("networking.k8s.io/v1", "IngressClass"),
                spec={"controller": "x/y", "parameters": {"apiGroup": "g.x", "kind": "P", "name": "n"}},
            ),
            "a x/y P.g.x/n 60m",
        ),
        (obj("networking.k8s.io/v1", "NetworkPolicy", spec={"podSelector": {}}), "a <none> 60m"),
        (
            obj(
                *("v1", "Node"),
                metadata={"labels": {"node-role.kubernetes.io/edge": ""}},
                spec={"unschedulable": True},
                status={
                    "conditions": [{"type": "Ready", "status": "False"}],
                    "addresses": [{"type": "InternalIP", "address": "192.168.0.1"}],
                    "nodeInfo": {"kubeletVersion": "v1"},
                },
            ),
            "a NotReady,SchedulingDisabled edge 60m v1 192.168.0.1 <none> <unknown> <unknown> <unknown>",
        ),
        (
            obj(
                *("apps/v1", "ControllerRevision"),
                metadata={"ownerReferences": [OWNER]},
                revision=3,
            ),
            "a daemonset.apps/d 3 60m",
        ),
        (obj("coordination.k8s.io/v1", "Lease", spec={"holderIdentity": "n1"}), "a n1 60m"),
        (obj("v1", "Namespace", status={"phase": "Active"}), "a Active 60m"),
        (obj("v1", "ConfigMap", data={"a": "b"}, binaryData={"c": "d"}), "a 2 60m"),
        (obj("v1", "Secret", type="Opaque", data={"a": "b"}), "a Opaque 1 60m"),
        (
            obj(
                *("v1", "Event"),
                involvedObject={"kind": "Pod", "name": "p"},
                type="Warning",
                reason="BackOff",
                message=" it failed \n",
                count=4,
                firstTimestamp=HOUR_AGO,
                lastTimestamp=HOUR_AGO,
                source={"component": "kubelet", "host": "n1"},
            ),
            "60m Warning BackOff pod/p  kubelet,_n1 it_failed 60m 4 a",
        ),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_cells(wire, cells):
    assert [str(cell).replace(" ", "_") for cell in row(wire).values()] == cells.split(" ")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_object_that_says_nothing_has_a_row_in_every_kind(kind):
    table = TableForm(kind, "v1", "").table([obj(kind.api_version, kind.name)], {"resourceVersion": "5"})
    assert len(table["rows"][0]["cells"]) == len(table["columnDefinitions"])
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert (table["kind"], table["apiVersion"], table["metadata"]) == (
        "Table",
        "meta.k8s.io/v1",
        {"resourceVersion": "5"},
    )


def test_rows_bring_as_much_of_the_object_as_is_asked_for():
    wire = obj("v1", "Pod")
    assert TableForm(kind_of(wire), "v1", "Object").table([wire], {})["rows"][0]["object"] == wire
    assert "object" not in TableForm(kind_of(wire), "v1", "None").table([wire], {})["rows"][0]
    with pytest.raises(BadRequest):
        TableForm(kind_of(wire), "v1", "Some")
