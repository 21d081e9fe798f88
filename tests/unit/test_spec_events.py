"""Events of experiments: what they are called, and what smoke runs make of them."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.measure.plan import smoke
from testbed.spec.events import ACTIONS, Event
from tests.unit.test_measure_plan import experiment

WORDS: list[tuple[str, dict[str, Any], str]] = [
    ("scale", {"deployment": "web", "replicas": 2}, "web to 2"),
    ("scale", {"deployment": "web", "namespace": "prod", "replicas": 2}, "prod/web to 2"),
    ("rollout", {"deployment": "web"}, "rollout of web"),
    ("rollout", {"deployment": "web", "image": "nginx", "env": {"A": "1"}}, "rollout of web with nginx A=1"),
    ("delete_pod", {"pod": "db-0", "namespace": "prod"}, "delete prod/db-0"),
    ("delete_pod", {"selector": {"app": "web", "tier": "a"}, "count": 2}, "delete 2 app=web,tier=a"),
    ("kill", {"selector": {"app": "web"}, "container": "main"}, "kill main of app=web"),
    ("kill", {"pod": "db-0"}, "kill db-0"),
    ("drain", {"node": "n2"}, "drain n2"),
    ("uncordon", {"node": "n2"}, "uncordon n2"),
    ("stop_node", {"node": "n2"}, "stop n2"),
    ("start_node", {"node": "n2"}, "start n2"),
    ("stop_controller", {}, "stop the controller"),
    ("start_controller", {}, "start the controller"),
]


@pytest.mark.parametrize(("action", "details", "words"), WORDS)
def test_an_event_says_what_it_does(action: str, details: dict[str, Any], words: str) -> None:
    event = Event.model_validate({"at_s": 1.0, action: details})
    assert (event.action, event.what) == (action, words)


def test_every_action_is_said() -> None:
    assert {action for action, _, _ in WORDS} == set(ACTIONS)


def test_a_smoke_run_has_every_event_in_its_order_and_soon() -> None:
    events = [
        {"at_s": 30.0, "start_controller": {}, "expect": {"lost_at_most": 0}},
        {"at_s": 10.0, "stop_controller": {}},
    ]
    probe = {"kind": "http", "paths": ["far"], "duration_s": 60.0, "events": events}
    (cut,) = smoke(experiment(probes=[probe])).probes
    assert [event.action for event in cut.events] == ["stop_controller", "start_controller"]
    assert cut.events[0].at_s < cut.events[1].at_s < cut.duration_s < 3
    assert cut.events[1].expect is not None
