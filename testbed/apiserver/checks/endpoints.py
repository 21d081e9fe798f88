"""What is wrong with the objects that say where a Service's endpoints are."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.apiserver.checks.addresses import parsed_address, wrong_endpoint
from testbed.apiserver.checks.names import wrong_name
from testbed.apiserver.checks.words import Problem, invalid_value, port_number, required
from testbed.cluster.objects import JsonObject

_VERSIONS = {"IPv4": 4, "IPv6": 6}


def endpoints_problems(wire: JsonObject) -> Iterator[Problem]:
    """What is wrong with an Endpoints."""
    for number, subset in enumerate(wire.get("subsets") or ()):
        at = f"subsets[{number}]"
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            yield at, required("must specify `addresses` or `notReadyAddresses`")
        for part in ("addresses", "notReadyAddresses"):
            for index, entry in enumerate(subset.get(part) or ()):
                if entry.get("ip") is not None and (wrong := wrong_endpoint(entry["ip"])):
                    yield f"{at}.{part}[{index}].ip", wrong
        yield from _port_problems(subset, at)


def endpoint_slice_problems(wire: JsonObject) -> Iterator[Problem]:
    """What is wrong with an EndpointSlice."""
    kind = wire.get("addressType")
    for number, endpoint in enumerate(wire.get("endpoints") or ()):
        at = f"endpoints[{number}].addresses"
        if not endpoint.get("addresses"):
            yield at, required("must contain at least 1 address")
        for index, text in enumerate(endpoint.get("addresses") or ()):
            if wrong := _wrong_slice_address(text, kind):
                yield f"{at}[{index}]", wrong
    yield from _port_problems(wire, "")


def _wrong_slice_address(text: str, kind: str | None) -> str | None:
    if kind == "FQDN":
        return wrong_name(text)
    address = parsed_address(text)
    if kind in _VERSIONS and (address is None or address.version != _VERSIONS[kind]):
        return invalid_value(text, f"must be a valid {kind} address")
    return wrong_endpoint(text)


def _port_problems(wire: JsonObject, at: str) -> Iterator[Problem]:
    for index, port in enumerate(wire.get("ports") or ()):
        if port.get("port") is not None and (wrong := port_number(port["port"])):
            yield f"{at}.ports[{index}].port".lstrip("."), wrong
