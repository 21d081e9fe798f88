"""``http``: requests to the pods' own web servers, in a closed loop or at a fixed rate, also while pods come and go."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Sequence
from dataclasses import replace

from testbed.errors import RunError
from testbed.measure.destination import Destination
from testbed.measure.events.happening import Happening
from testbed.measure.events.timeline import Timeline
from testbed.measure.probes.base import ANSWER_LIMIT_S, PROGRAM_LIMIT_S, Context, Request, Result
from testbed.measure.process import ProbeFailure, client_argv, last_line, read_line, start, stop
from testbed.spec.models import Probe

HTTP_PORT = 80
_BEGIN = re.compile(r"begin (\d+)")
# Nobody answered at all; every other problem is somebody's refusal.
_NO_ANSWER = "timeout"


def run(context: Context) -> Result:
    """Times in microseconds of the requests that were answered well, and how many were not.

    ``failed``: refused, reset, closed or answered with an error; ``late``: answered after ``late_ms``; ``lost``: not
    answered within a second. Closed loop: ``requests_per_s``. With events ``stale_ms``, one figure an event that took
    pods from the Service: how long after its write to the API one of them still answered. What the events have changed
    stays so (see :func:`testbed.measure.events.restore.brought_back`).
    """
    probe, network = context.probe, context.network
    destination = context.destination("tcp", HTTP_PORT)
    timeline, causes = Timeline(network, probe.events, lambda: _pods(context)), []
    process = start(network, context.source, command(destination, probe), bufsize=0)
    try:
        begin_ns = _begin_ns(read_line(process, PROGRAM_LIMIT_S))
        try:
            timeline.run(begin_ns)
        except RunError as error:
            causes.append(str(error))  # what the client saw of it is kept all the same
        output, errors = process.communicate(timeout=probe.warmup_s + probe.duration_s + PROGRAM_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise ProbeFailure(f"http.py gave no result within {PROGRAM_LIMIT_S:g} s of its end") from None
    finally:
        stop(process)
    if process.returncode != 0:
        raise ProbeFailure(f"http.py ended with status {process.returncode}: {last_line(errors or output)}")
    result = result_of(probe, parse(output), timeline.happenings, str(context.target))
    return replace(result, causes=tuple(causes))


def command(destination: Destination, probe: Probe) -> list[str]:
    """The command line of our client; the words are explained in its own file."""
    where = (destination.address, destination.request_port, probe.url, probe.duration_s, probe.warmup_s)
    return client_argv("http.py", *where, probe.rate_per_s or 0, int(probe.keep_alive), ANSWER_LIMIT_S)


def parse(output: bytes) -> tuple[Request, ...]:
    """What our client says at its end, its last line. Raises :class:`ProbeFailure` when it is not that."""
    try:
        document = json.loads(output.rstrip().rpartition(b"\n")[2])
        pods, problems = document["pods"], document["problems"]
        rows = sorted(document["requests"])
        return tuple(
            Request(due_ns / 1e6, over_ns / 1e6, status, pods[pod], problems[problem])
            for due_ns, over_ns, status, pod, problem in rows
        )
    except (ValueError, KeyError, TypeError):
        raise ProbeFailure("the client's output is cut off") from None


def result_of(
    probe: Probe, requests: Sequence[Request], happenings: Sequence[Happening] = (), aim: str = "the server"
) -> Result:
    """The figures of a cell. Raises :class:`ProbeFailure` when no request was answered well. Pure."""
    good = [request for request in requests if request.ok]
    if not good:
        problems = sorted({request.problem or f"status {request.status}" for request in requests})
        raise ProbeFailure(f"no good answer from {aim} to {len(requests)} requests ({', '.join(problems)})")
    lost = sum(request.problem == _NO_ANSWER for request in requests)
    late = sum(request.took_ms > probe.late_ms for request in good)
    values: list[tuple[str, list[float]]] = [
        ("request_us", [request.took_ms * 1000 for request in good]),
        ("failed", [float(len(requests) - len(good) - lost)]),
        ("late", [float(late)]),
    ]
    if probe.rate_per_s is None:
        values.append(("requests_per_s", [len(good) / probe.duration_s]))
    stale_ms = stale_times_ms(requests, happenings)
    if stale_ms:
        values.append(("stale_ms", stale_ms))
    return Result(
        tuple(values),
        lost,
        len(good),
        requests=tuple(requests),
        happenings=tuple(happenings),
        loss_is_a_result=bool(probe.events),
    )


def stale_times_ms(requests: Sequence[Request], happenings: Sequence[Happening]) -> list[float]:
    """Of each event that removed pods: the time from its write to the last answer of one of them; 0 without any.

    Answers to requests that were under way when the event came are no fault. A name may come back with a later event;
    from then on its answers are right again.
    """
    found = []
    for number, happening in enumerate(happenings):
        # The pods of a rollout go one after the other; until then their answers are right.
        if not happening.removed or happening.action == "rollout":
            continue
        later = happenings[number + 1 :]
        last_ms = happening.written_ms
        for pod in happening.removed:
            back_ms = min((other.written_ms for other in later if pod in other.added), default=float("inf"))
            asked = (request for request in requests if request.ok and request.pod == pod)
            wrong = (
                request for request in asked if happening.written_ms <= request.due_ms and request.over_ms < back_ms
            )
            last_ms = max([last_ms, *(request.over_ms for request in wrong)])
        found.append(last_ms - happening.written_ms)
    return found


def _begin_ns(line: str) -> int:
    found = _BEGIN.fullmatch(line)
    if found is None:
        raise ProbeFailure(f"http.py said {line!r}")
    return int(found[1])


def _pods(context: Context) -> frozenset[str]:
    """The names of the pods behind the target now; none when it has no endpoint left."""
    try:
        backends = context.destination("tcp", HTTP_PORT).backends
    except ProbeFailure:
        return frozenset()
    return frozenset(backend.endpoint.name for backend in backends)
