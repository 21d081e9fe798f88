"""What is wrong with a container of a Pod."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal

from testbed.apiserver.checks.addresses import wrong_ip
from testbed.apiserver.checks.names import wrong_label_name, wrong_port_name, wrong_variable_name
from testbed.apiserver.checks.services import wrong_target
from testbed.apiserver.checks.words import (
    Problem,
    duplicate,
    forbidden,
    invalid_value,
    not_found,
    not_negative,
    port_number,
    required,
    unsupported,
)
from testbed.cluster.objects import JsonObject
from testbed.cluster.quantities import quantity
from testbed.cluster.values import PROTOCOLS

_PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_PROBE_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_SIGNALS = [name for name in signal.Signals.__members__ if name not in ("SIGCLD", "SIGIOT", "SIGPOLL")]
_HOOKS = ("postStart", "preStop")
_PROBE_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc")
_HOOK_HANDLERS = ("exec", "httpGet", "tcpSocket", "sleep")


def container_problems(container: JsonObject, volumes: list[str], at: str) -> Iterator[Problem]:
    """``volumes`` are the names of those that there are, ``at`` is the container's place."""
    name = container.get("name")
    if name == "":
        yield f"{at}.name", required()
    elif name is not None and (wrong := wrong_label_name(name)):
        yield f"{at}.name", wrong
    if not container.get("image"):
        yield f"{at}.image", required()
    if container.get("imagePullPolicy") not in (None, "", *_PULL_POLICIES):
        yield f"{at}.imagePullPolicy", unsupported(container["imagePullPolicy"], _PULL_POLICIES)
    yield from _ports_problems(container.get("ports") or [], f"{at}.ports")
    yield from _mount_problems(container.get("volumeMounts") or [], volumes, f"{at}.volumeMounts")
    for index, variable in enumerate(container.get("env") or ()):
        yield from _variable_problems(variable, f"{at}.env[{index}]")
    yield from _resource_problems(container.get("resources") or {}, f"{at}.resources")
    for probe in _PROBES:
        if container.get(probe) is not None:
            yield from _probe_problems(container[probe], f"{at}.{probe}", probe != "readinessProbe")
    lifecycle = container.get("lifecycle") or {}
    if (name := lifecycle.get("stopSignal")) is not None and name not in signal.Signals.__members__:
        yield f"{at}.lifecycle.stopSignal", unsupported(name, _SIGNALS)
    for hook in _HOOKS:
        if lifecycle.get(hook) is not None:
            yield from _handler_problems(lifecycle[hook], _HOOK_HANDLERS, f"{at}.lifecycle.{hook}")


def _ports_problems(ports: list[JsonObject], at: str) -> Iterator[Problem]:
    names = set[str]()
    for index, port in enumerate(ports):
        here = f"{at}[{index}]"
        for field in ("containerPort", "hostPort"):
            number = port.get(field)
            if number is not None and not (field == "hostPort" and number == 0) and (wrong := port_number(number)):
                yield f"{here}.{field}", wrong
        if port.get("protocol") not in (None, *PROTOCOLS):
            yield f"{here}.protocol", unsupported(port["protocol"], PROTOCOLS)
        if port.get("hostIP") and (wrong := wrong_ip(port["hostIP"])):
            yield f"{here}.hostIP", wrong
        if name := port.get("name"):
            if wrong := wrong_port_name(name):
                yield f"{here}.name", wrong
            elif name in names:
                yield f"{here}.name", duplicate(name)
            names.add(name)


def _mount_problems(mounts: list[JsonObject], volumes: list[str], at: str) -> Iterator[Problem]:
    paths = set[str]()
    for index, mount in enumerate(mounts):
        here, path, below = f"{at}[{index}]", mount.get("mountPath"), mount.get("subPath")
        if mount.get("name") is not None and mount["name"] not in volumes:
            yield f"{here}.name", not_found(mount["name"])
        if path == "":
            yield f"{here}.mountPath", required()
        elif path is not None and path in paths:
            yield f"{here}.mountPath", invalid_value(path, "must be unique")
        paths.add(str(path))
        if below and below.startswith("/"):
            yield f"{here}.subPath", invalid_value(below, "must be a relative path")
        elif below and ".." in below.split("/"):
            yield f"{here}.subPath", invalid_value(below, "must not contain '..'")


def _variable_problems(variable: JsonObject, at: str) -> Iterator[Problem]:
    name = variable.get("name")
    if name == "":
        yield f"{at}.name", required()
    elif name is not None and (wrong := wrong_variable_name(name)):
        yield f"{at}.name", wrong
    if variable.get("value") and variable.get("valueFrom"):
        yield f"{at}.valueFrom", invalid_value("", "may not be specified when `value` is not empty")


def _resource_problems(resources: JsonObject, at: str) -> Iterator[Problem]:
    """What is no quantity at all is said elsewhere."""
    limits, requests = _amounts(resources.get("limits")), _amounts(resources.get("requests"))
    for part, amounts in (("limits", limits), ("requests", requests)):
        for name, (text, amount) in amounts.items():
            if amount < 0:
                yield f"{at}.{part}[{name}]", invalid_value(text, "must be greater than or equal to 0")
    for name, (text, amount) in requests.items():
        if name in limits and amount > limits[name][1]:
            reason = f"must be less than or equal to {name} limit of {limits[name][0]}"
            yield f"{at}.requests", invalid_value(text, reason)


def _amounts(given: JsonObject | None) -> dict[str, tuple[str, Decimal]]:
    """Quantities by name, each as it is written and what it says."""
    found = {}
    for name, value in (given or {}).items():
        with suppress(ValueError):
            found[name] = str(value), quantity(str(value))
    return found


def _probe_problems(probe: JsonObject, at: str, once: bool) -> Iterator[Problem]:
    """``once``: whether a single success counts, as it must in all but readiness probes."""
    yield from _handler_problems(probe, _PROBE_HANDLERS, at)
    yield from not_negative(probe, _PROBE_NUMBERS, at)
    if once and (probe.get("successThreshold") or 1) > 1:
        yield f"{at}.successThreshold", invalid_value(probe["successThreshold"], "must be 1")


def _handler_problems(handler: JsonObject, known: tuple[str, ...], at: str) -> Iterator[Problem]:
    given = [name for name in known if handler.get(name) is not None]
    if not given:
        yield at, required("must specify a handler type")
    for name in given[1:]:
        yield f"{at}.{name}", forbidden("may not specify more than 1 handler type")
    if "exec" in given and not handler["exec"].get("command"):
        yield f"{at}.exec.command", required()
    for name in ("httpGet", "tcpSocket"):
        port = (handler.get(name) or {}).get("port")
        if port is not None and (wrong := wrong_target(port)):
            yield f"{at}.{name}.port", wrong
