"""A running cluster as its page shows it: where everything stands, in which state, and what passes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from testbed.apiserver.tables.pods import summary
from testbed.cluster.kinds import ENDPOINT_SLICE, EVENT, NODE, POD, SERVICE
from testbed.cluster.objects import JsonObject, natural_key, object_name, object_namespace
from testbed.cluster.pod_facts import condition, is_ready
from testbed.cluster.services import SERVICE_NAME_LABEL
from testbed.cluster.status import BadRequest
from testbed.errors import TestbedError
from testbed.network.graph_layout import place
from testbed.network.traffic import TrafficMeter
from testbed.trace import Cluster, Request
from testbed.trace import trace as trace_packet
from testbed.trace.text import trace_as_text
from topologies.fabric import Fabric, Shaping

if TYPE_CHECKING:
    from testbed.network.testbed import Testbed

_SHOWN_EVENTS = 40


class LivingPicture:
    """See :class:`testbed.cluster.page_source.PageSource`."""

    def __init__(self, name: str, testbed: Testbed) -> None:
        self._name, self._testbed = name, testbed
        self._tiers = tiers(testbed.fabric)
        self._meter = TrafficMeter(testbed.fabric, testbed.switches)

    def picture(self) -> JsonObject:
        testbed = self._testbed
        store, config = testbed.store, testbed.state.config
        traffic = self._meter.traffic()
        nodes = sorted(store.list(NODE).items, key=lambda wire: natural_key(object_name(wire)))
        return {
            "name": self._name,
            "mode": config.mode,
            "proxy": config.proxy,
            "tiers": self._tiers,
            "links": [
                {
                    "a": link.a.element,
                    "b": link.b.element,
                    "shape": shape_text(link.shaping),
                    "bitsPerSecond": use,
                }
                for link, use in zip(testbed.fabric.links, traffic.links, strict=True)
            ],
            "nodes": {object_name(node): node_facts(node) for node in nodes},
            "pods": [pod_facts(pod) for pod in store.list(POD).items],
            "services": service_facts(store.list(SERVICE).items, store.list(ENDPOINT_SLICE).items),
            "conversations": [
                {
                    "from": talk.source,
                    "to": talk.target,
                    "via": talk.via,
                    "packetsPerSecond": talk.packets_per_second,
                }
                for talk in traffic.conversations
            ],
            "events": newest_events(store.list(EVENT).items),
        }

    def trace(self, source: str, target: str) -> JsonObject:
        try:
            traced = trace_packet(Cluster.of_store(self._testbed.store), Request(source, target))
        except TestbedError as error:
            raise BadRequest(str(error)) from None
        return {"succeeded": traced.succeeded, "text": trace_as_text(traced)}


def tiers(fabric: Fabric) -> list[list[dict[str, str]]]:
    """The elements from the top of the picture to the nodes, each row from left to right."""
    rows: dict[float, list[tuple[float, dict[str, str]]]] = defaultdict(list)
    for box in place(fabric, {}).boxes:
        name, *address = box.lines
        # Nodes may stand in several rows of the printed picture; the page wraps its own lines.
        height = -1.0 if box.kind == "node" else box.y
        element = {"name": name, "kind": str(box.kind), "address": address[0] if address else ""}
        rows[height].append((box.x, element))
    ordered = [[element for _, element in sorted(rows[height], key=lambda entry: entry[0])] for height in rows]
    by_height = dict(zip(rows, ordered, strict=True))
    by_height[-1.0].sort(key=lambda element: natural_key(element["name"]))
    return [by_height[height] for height in sorted(by_height, reverse=True)]


def shape_text(shaping: Shaping) -> str:
    """What a link does to packets, in words; empty for one that does nothing."""
    parts = (
        (shaping.rate_mbit, "Mbit/s"),
        (shaping.delay_ms, "ms delay"),
        (shaping.jitter_ms, "ms jitter"),
        (shaping.loss_pct, "% loss"),
        (shaping.queue_packets, "packets queue"),
    )
    return ", ".join(f"{value:g} {unit}" for value, unit in parts if value is not None)


def node_facts(node: JsonObject) -> dict[str, Any]:
    """A Node in brief."""
    return {
        "ready": condition(node, "Ready").get("status") == "True",
        "schedulable": not node["spec"].get("unschedulable", False),
        "podCIDR": node["spec"].get("podCIDR", ""),
    }


def pod_facts(pod: JsonObject) -> dict[str, Any]:
    """A Pod in brief; ``status`` as ``kubectl get pods`` has it."""
    told = summary(pod)
    return {
        "namespace": object_namespace(pod),
        "name": object_name(pod),
        "node": pod["spec"].get("nodeName", ""),
        "ip": (pod.get("status") or {}).get("podIP", ""),
        "status": told.status,
        "ready": is_ready(pod),
        "restarts": told.restarts,
    }


def service_facts(services: Iterable[JsonObject], slices: Iterable[JsonObject]) -> list[dict[str, Any]]:
    """Services in brief, with the pods (or addresses) that are ready behind them."""
    endpoints: dict[tuple[str, str], list[str]] = defaultdict(list)
    for piece in slices:
        service = (piece["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL, "")
        for endpoint in piece.get("endpoints") or ():
            if (endpoint.get("conditions") or {}).get("ready", True):
                named = (endpoint.get("targetRef") or {}).get("name") or endpoint["addresses"][0]
                endpoints[object_namespace(piece), service].append(named)
    return [
        {
            "namespace": object_namespace(service),
            "name": object_name(service),
            "type": service["spec"].get("type", "ClusterIP"),
            "clusterIP": service["spec"].get("clusterIP", ""),
            "ports": [_port_text(port) for port in service["spec"].get("ports") or ()],
            "endpoints": sorted(set(endpoints[object_namespace(service), object_name(service)])),
        }
        for service in services
    ]


def _port_text(port: JsonObject) -> str:
    node_port = f":{port['nodePort']}" if port.get("nodePort") else ""
    return f"{port['port']}{node_port}/{port.get('protocol', 'TCP')}"


def newest_events(events: Iterable[JsonObject]) -> list[dict[str, Any]]:
    """The newest Events first."""
    newest = sorted(events, key=lambda event: int(event["metadata"]["resourceVersion"]), reverse=True)
    return [
        {
            "type": event.get("type", "Normal"),
            "reason": event.get("reason", ""),
            "message": event.get("message", ""),
            "object": f"{event['involvedObject'].get('kind', '')}/{event['involvedObject'].get('name', '')}".lower(),
            "when": event.get("lastTimestamp") or event["metadata"].get("creationTimestamp", ""),
            "count": event.get("count", 1),
        }
        for event in newest[:_SHOWN_EVENTS]
    ]
