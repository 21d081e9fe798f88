"""What a probe is given and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from testbed.measure.interface import Network
from testbed.measure.process import Servers
from testbed.spec.endpoints import EndpointRef
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
    target: EndpointRef
    payload_bytes: int = 0
    source_port: int = 0

    @property
    def address(self) -> str:
        """The target's address as text."""
        return str(self.network.address(self.target))


@dataclass(frozen=True)
class Result:
    """What one cell gave. ``values``: (metric with unit, figures). ``lost``: probes without an answer, None where that
    cannot be told. ``exchanges``: how many packets went there and back at the least (for the bridges' counters).
    ``retransmits``: segments that TCP sent again, where the tool says so."""

    values: tuple[tuple[str, Sequence[float]], ...]
    lost: int | None = None
    exchanges: int = 0
    retransmits: int = 0
