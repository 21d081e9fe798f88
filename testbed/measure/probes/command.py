"""``command``: any program of the user's; a regular expression or a JSON path picks the figures out of its output."""

from __future__ import annotations

import json
import re
from typing import Any

from testbed.cluster.values import IPAddress
from testbed.measure.destination import transports
from testbed.measure.probes.base import PROGRAM_LIMIT_S, Context, Result
from testbed.measure.process import ProbeFailure, run_program
from testbed.spec.models import Probe


def run(context: Context) -> Result:
    """Runs the program at the path's source. ``{target}`` in its arguments becomes the target's address."""
    probe = context.probe
    assert probe.argv is not None and probe.metric is not None  # checked with the file
    # A command says itself which protocol it speaks; of a Service that has one protocol only, that one.
    destination = context.destination(next(iter(transports(context.network, context.target)), "tcp"), 0)
    if probe.server_argv is not None:
        for backend in destination.backends:
            context.servers.ensure(backend.endpoint, _filled(probe.server_argv, backend.server_ip))
    limit_s = probe.duration_s + PROGRAM_LIMIT_S
    output = run_program(context.network, context.source, _filled(probe.argv, destination.address), limit_s)
    return Result(((probe.metric, parse(output.decode(errors="replace"), probe)),))


def _filled(argv: tuple[str, ...], address: IPAddress) -> list[str]:
    return [word.replace("{target}", str(address)) for word in argv]


def parse(output: str, probe: Probe) -> list[float]:
    """The figures in the output, in the metric's unit. Raises :class:`ProbeFailure` when there is none."""
    if probe.pattern is not None:
        texts = re.findall(probe.pattern, output, re.MULTILINE)
    else:
        texts = _at(output, probe.json_path or "")
    figures = [_number(text[0] if isinstance(text, tuple) else text) * probe.scale for text in texts]
    if not figures:
        raise ProbeFailure(f"{probe.label}: no figure found in the output of {(probe.argv or ('the command',))[0]}")
    return figures


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ProbeFailure(f"{value!r} is not a number") from None


def _at(output: str, json_path: str) -> list[Any]:
    """The values at a path such as ``intervals[*].sum.bits_per_second``; ``[*]`` takes every item of a list."""
    try:
        values: list[Any] = [json.loads(output)]
    except ValueError:
        raise ProbeFailure("the output is not JSON") from None
    for key, index in re.findall(r"([\w-]+)|\[(\d+|\*)\]", json_path):
        values = [value for parent in values for value in (_member(parent, key) if key else _items(parent, index))]
    return values


def _member(parent: Any, key: str) -> list[Any]:
    return [parent[key]] if isinstance(parent, dict) and key in parent else []


def _items(parent: Any, index: str) -> list[Any]:
    if not isinstance(parent, list):
        return []
    return parent if index == "*" else parent[int(index) : int(index) + 1]
