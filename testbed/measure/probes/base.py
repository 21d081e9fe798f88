"""What a probe is given and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from testbed.measure.destination import Destination, Transport, resolve
from testbed.measure.events.happening import Happening
from testbed.measure.interface import Network
from testbed.measure.process import Servers
from testbed.spec.endpoints import EndpointRef, Target
from testbed.spec.models import Probe

# Ports of our servers. Below the range that Linux gives to clients, away from what usual images serve.
ECHO_PORT = 17007
SOCKPERF_PORT = 17111
IPERF3_PORT = 17201

# Waiting for one answer. Far above any round trip here, so that only a lost packet meets it.
ANSWER_LIMIT_S = 1.0
# What a program may take beyond its measuring time: starting, connecting, printing.
PROGRAM_LIMIT_S = 10.0


@dataclass(frozen=True)
class Context:
    """One cell to be measured: a probe from ``source`` to ``target``. ``payload_bytes`` is 0 where there is none."""

    network: Network
    servers: Servers
    probe: Probe
    source: EndpointRef
    target: Target
    payload_bytes: int = 0
    source_port: int = 0

    def destination(self, transport: Transport, own_port: int) -> Destination:
        """Where the requests go now. Raises :class:`ProbeFailure` when nobody could answer them."""
        return resolve(self.network, self.target, transport, own_port)

    def echo(self, transport: Transport) -> Destination:
        """The same, with our echo server at every backend ready when this returns."""
        return serve_echo(self.network, self.servers, self.target, transport)


def serve_echo(network: Network, servers: Servers, target: Target, transport: Transport) -> Destination:
    """Our echo server at every backend of a target: of a Service in each of its endpoints, at its target port."""
    destination = resolve(network, target, transport, ECHO_PORT)
    for backend in destination.backends:
        servers.echo(backend.endpoint, transport, backend.server_port)
    return destination


@dataclass(frozen=True)
class Request:
    """One HTTP request of a cell. ``due_ms``: when it should have been sent, from the begin of measuring.

    ``over_ms``: when it was over, in whichever way. ``status``: of the answer; 0 without one, and then ``problem``
    says why. ``pod``: who answered, by the first line of the answer.
    """

    due_ms: float
    over_ms: float
    status: int
    pod: str
    problem: str = ""

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 400

    @property
    def took_ms(self) -> float:
        """From when it was due to when it was over."""
        return self.over_ms - self.due_ms


@dataclass(frozen=True)
class Result:
    """What one cell gave. ``values``: (metric with unit, figures). ``lost``: probes without an answer, None where that
    cannot be told; ``lost_of``: how many of them each metric misses, where a cell has several. ``exchanges``: how many
    packets went there and back at the least (for the bridges' counters). ``retransmits``: segments that TCP sent again,
    where the tool says so. ``requests`` and ``happenings``: of a cell that keeps more than figures.
    ``loss_is_a_result``: what is lost is what the cell asks for and voids nothing. ``causes``: why the round is void
    although there are figures."""

    values: tuple[tuple[str, Sequence[float]], ...]
    lost: int | None = None
    exchanges: int = 0
    retransmits: int = 0
    lost_of: Mapping[str, int] = field(default_factory=dict)
    requests: tuple[Request, ...] = ()
    happenings: tuple[Happening, ...] = ()
    loss_is_a_result: bool = False
    causes: tuple[str, ...] = ()
