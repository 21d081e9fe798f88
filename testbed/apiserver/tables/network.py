"""The tables of Services, of what stands behind them, and of what lets traffic to them."""

from __future__ import annotations

from typing import Any

from testbed.apiserver.tables.columns import (
    AGE,
    NAME,
    NONE,
    SELECTOR,
    Column,
    Layout,
    age,
    first_few,
    labels_text,
    selector_text,
    spec,
    status,
    with_port,
)
from testbed.cluster.objects import JsonObject


def _service(wire: JsonObject, now: float) -> list[Any]:
    wanted = spec(wire)
    ports = (
        f"{port.get('port')}" + (f":{port['nodePort']}" if port.get("nodePort") else "") + f"/{_protocol(port)}"
        for port in wanted.get("ports") or ()
    )
    return [
        wire["metadata"]["name"],
        wanted.get("type") or "ClusterIP",
        wanted.get("clusterIP") or NONE,
        _external(wire),
        ",".join(ports) or NONE,
        age(wire, now),
        labels_text(wanted.get("selector")),
    ]


def _protocol(port: JsonObject) -> str:
    return port.get("protocol") or "TCP"


def _external(wire: JsonObject) -> str:
    wanted = spec(wire)
    addresses = list(wanted.get("externalIPs") or ())
    if wanted.get("type") == "ExternalName":
        return str(wanted.get("externalName") or NONE)
    if wanted.get("type") == "LoadBalancer":
        addresses = [*_balancer_addresses(wire), *addresses]
        return ",".join(addresses) or "<pending>"
    return ",".join(addresses) or NONE


def _balancer_addresses(wire: JsonObject) -> list[str]:
    ingress = (status(wire).get("loadBalancer") or {}).get("ingress") or ()
    return [point.get("ip") or point.get("hostname") or "" for point in ingress]


def _endpoints(wire: JsonObject, now: float) -> list[Any]:
    addresses = (
        with_port(address.get("ip", ""), port.get("port"))
        for subset in wire.get("subsets") or ()
        for port in subset.get("ports") or ()
        for address in subset.get("addresses") or ()
    )
    return [wire["metadata"]["name"], first_few(addresses, NONE), age(wire, now)]


def _endpoint_slice(wire: JsonObject, now: float) -> list[Any]:
    ports = ("*" if port.get("port") is None else str(port["port"]) for port in wire.get("ports") or ())
    addresses = (address for endpoint in wire.get("endpoints") or () for address in endpoint.get("addresses") or ())
    return [
        wire["metadata"]["name"],
        wire.get("addressType", ""),
        first_few(ports, "<unset>"),
        first_few(addresses, "<unset>"),
        age(wire, now),
    ]


def _ingress(wire: JsonObject, now: float) -> list[Any]:
    annotations = wire["metadata"].get("annotations") or {}
    hosts = [rule["host"] for rule in spec(wire).get("rules") or () if rule.get("host")]
    return [
        wire["metadata"]["name"],
        spec(wire).get("ingressClassName") or annotations.get("kubernetes.io/ingress.class") or NONE,
        first_few(hosts, "*"),
        ",".join(_balancer_addresses(wire)),
        "80, 443" if spec(wire).get("tls") else "80",
        age(wire, now),
    ]


def _ingress_class(wire: JsonObject, now: float) -> list[Any]:
    reference = spec(wire).get("parameters")
    parameters = NONE
    if reference:
        group = f".{reference['apiGroup']}" if reference.get("apiGroup") else ""
        parameters = f"{reference.get('kind')}{group}/{reference.get('name')}"
    return [wire["metadata"]["name"], spec(wire).get("controller", ""), parameters, age(wire, now)]


def _network_policy(wire: JsonObject, now: float) -> list[Any]:
    return [wire["metadata"]["name"], selector_text(spec(wire).get("podSelector")), age(wire, now)]


SERVICES = Layout(
    (
        NAME,
        Column("Type", "How the Service is reached."),
        Column("Cluster-IP", "The address inside the cluster."),
        Column("External-IP", "The addresses from outside."),
        Column("Port(s)", "The ports: PORT[:NODEPORT]/PROTOCOL."),
        AGE,
        SELECTOR,
    ),
    _service,
)
ENDPOINTS = Layout((NAME, Column("Endpoints", "Addresses and ports of the pods behind a Service."), AGE), _endpoints)
ENDPOINT_SLICES = Layout(
    (
        NAME,
        Column("AddressType", "Which kind of addresses the slice has."),
        Column("Ports", "The ports of every endpoint."),
        Column("Endpoints", "The addresses."),
        AGE,
    ),
    _endpoint_slice,
)
INGRESSES = Layout(
    (
        NAME,
        Column("Class", "The class of the controller that serves it."),
        Column("Hosts", "The host names that its rules are for."),
        Column("Address", "Where it is reached."),
        Column("Ports", "The ports at which it is reached."),
        AGE,
    ),
    _ingress,
)
INGRESS_CLASSES = Layout(
    (
        NAME,
        Column("Controller", "The controller that serves Ingresses of this class."),
        Column("Parameters", "Where the controller's settings are."),
        AGE,
    ),
    _ingress_class,
)
NETWORK_POLICIES = Layout(
    (NAME, Column("Pod-Selector", "The labels of the pods that it is for."), AGE), _network_policy
)
