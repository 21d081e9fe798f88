"""The shipped experiments with events, one short round each, and every event there is: the cluster comes back."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from testbed.analysis.load import load
from testbed.analysis.summary import summarise
from testbed.cluster.kinds import DEPLOYMENT, NODE, POD
from testbed.measure.events.happening import Happening
from testbed.measure.events.rest import come_to_rest
from testbed.measure.events.restore import brought_back
from testbed.measure.events.timeline import Timeline
from testbed.measure.plan import smoke
from testbed.measure.recorder import Recorder
from testbed.measure.runner import measure_build
from testbed.network.builder import build
from testbed.network.testbed import Testbed
from testbed.progress import open_progress
from testbed.spec.events import Event
from testbed.spec.load import load_experiment
from tests.box.clusters import cluster, plan_of, pod
from tests.box.harness import PROJECT, USERS, run_in_box

pytestmark = pytest.mark.box


def _measured(name: str) -> dict[str, Any]:
    """The summary of an experiment's smoke run, in one mode with the bridges' balancing."""
    file = PROJECT / "experiments" / f"{name}.yaml"
    checked = load_experiment(file, ("modes=[routed]", "proxies=[openflow]"))
    checked = replace(checked, experiment=smoke(checked.experiment))
    (only,) = checked.experiment.builds
    with tempfile.TemporaryDirectory() as folder:
        with Recorder(Path(folder)) as recorder:
            recorder.begin(checked, command=[], seed=1, smoke=True)
            recorder.environment({})
            with build(checked, only, "auto", open_progress()) as testbed:
                measure_build(testbed, checked, only, recorder, open_progress(), 1)
        assert load(folder).rounds["valid"].all(), Path(folder, "rounds.jsonl").read_text()
        return summarise(folder)


def rolling_update_is_measured() -> None:
    events = _measured("rolling_update")["events"]
    assert [(each["path"], each["action"]) for each in events] == [("graceful", "rollout"), ("abrupt", "rollout")]
    assert events[0]["lost"] == 0


def controller_restart_is_measured() -> None:
    events = _measured("controller_restart")["events"]
    actions = ["stop_controller", "scale", "start_controller"]
    assert [each["action"] for each in events] == actions * 2
    assert not any(each["lost"] for each in events)
    # What was changed while the controller was away was confirmed with its return.
    _, scaled, started = events[:3]
    assert scaled["confirmed_s"] == pytest.approx(started["at_s"] + started["confirmed_s"] - scaled["at_s"], abs=0.01)


def node_failure_is_measured() -> None:
    stopped, started = _measured("node_failure")["events"]
    assert (stopped["what"], started["what"]) == ("stop n3", "start n3")
    assert stopped["lost"] > 0 and started["lost"] == 0


@pytest.mark.parametrize(
    "measured", [rolling_update_is_measured, controller_restart_is_measured, node_failure_is_measured]
)
def test_shipped_experiments_with_events(measured: Any) -> None:
    run_in_box(measured, USERS[0])


# --- every event -----------------------------------------------------------------------------------------------------


def _workload(kind: str, name: str, replicas: int) -> dict[str, Any]:
    container = {"name": "main", "image": "whoami", "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1}}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    more = {"serviceName": name} if kind == "StatefulSet" else {}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": {**spec, **more}}


class _Seen:
    """A cluster while events happen to it, one at a time."""

    def __init__(self, testbed: Testbed) -> None:
        self.testbed = testbed

    def pods(self) -> dict[str, dict[str, Any]]:
        return {each["metadata"]["name"]: each for each in self.testbed.store.list(POD).items}

    def on(self, node: str) -> set[str]:
        return {name for name, each in self.pods().items() if each["spec"]["nodeName"] == node}

    def happen(self, **action: Any) -> Happening:
        """Let one event happen, and wait until it is over."""
        timeline = Timeline(
            self.testbed, [Event.model_validate({"at_s": 0.0, **action})], lambda: frozenset(self.pods())
        )
        timeline.run(0)
        (happening,) = timeline.happenings
        return happening

    def state(self) -> dict[str, Any]:
        """What must be the same afterwards."""
        deployment = self.testbed.store.get(DEPLOYMENT, "web")["spec"]
        return {
            "places": Counter(
                (each["metadata"]["labels"].get("app"), each["spec"]["nodeName"]) for each in self.pods().values()
            ),
            "replicas": deployment["replicas"],
            "containers": deployment["template"]["spec"]["containers"],
            "cordoned": [bool(each["spec"].get("unschedulable")) for each in self.testbed.store.list(NODE).items],
            "stopped": self.testbed.stopped_nodes,
            "controller": self.testbed.controller_is_running,
        }


def every_event_does_what_it_says_and_is_undone() -> None:
    lone = pod("lone", "n3")
    lone["metadata"]["labels"] = {"app": "lone"}
    objects = [lone, _workload("Deployment", "web", 4), _workload("StatefulSet", "db", 1)]
    with cluster(plan_of("leaf_spine", objects, leaves=3, spines=1, nodes_per_leaf=1)) as testbed:
        come_to_rest(testbed)
        seen = _Seen(testbed)
        before = seen.state()
        with pytest.raises(ZeroDivisionError), brought_back(testbed, [Event(at_s=0.0)]):
            _events_do_what_they_say(seen)
            # A failure in the midst of it all: node, controller, cordon, replicas and a pod are not what they were.
            testbed.store.patch(NODE, "n3", {"spec": {"unschedulable": True}})
            raise ZeroDivisionError
        assert seen.state() == before


def _events_do_what_they_say(seen: _Seen) -> None:
    testbed = seen.testbed
    scaled = seen.happen(scale={"deployment": "web", "replicas": 2})
    assert (len(scaled.removed), len(scaled.added)) == (2, 0)

    rolled = seen.happen(rollout={"deployment": "web", "env": {"PORT": "8000"}})
    assert (len(rolled.removed), len(rolled.added)) == (2, 2)
    assert {"name": "PORT", "value": "8000"} in seen.pods()[rolled.added[0]]["spec"]["containers"][0]["env"]
    assert len(seen.happen(rollout={"deployment": "web"}).added) == 2

    deleted = seen.happen(delete_pod={"selector": {"app": "web"}, "count": 1})
    assert (len(deleted.removed), len(deleted.added)) == (1, 1)
    assert seen.happen(delete_pod={"pod": "lone"}).removed == ("lone",)

    uid = seen.pods()["db-0"]["metadata"]["uid"]
    assert seen.happen(kill={"pod": "db-0"}).removed == ()
    again = seen.pods()["db-0"]
    assert again["metadata"]["uid"] == uid and again["status"]["containerStatuses"][0]["restartCount"] == 1

    seen.happen(drain={"node": "n2"})
    assert not seen.on("n2") and len(seen.pods()) == 3
    seen.happen(uncordon={"node": "n2"})
    seen.happen(scale={"deployment": "web", "replicas": 3})
    assert seen.on("n2")

    seen.happen(stop_node={"node": "n2"})
    conditions = testbed.store.get(NODE, "n2")["status"]["conditions"]
    assert [each["status"] for each in conditions if each["type"] == "Ready"] == ["Unknown"]
    seen.happen(stop_controller={})
    assert not testbed.controller.is_alive


def test_every_event_does_what_it_says_and_is_undone() -> None:
    run_in_box(every_event_does_what_it_says_and_is_undone, USERS[0])
