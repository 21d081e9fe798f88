"""What passes through a cluster just now: bits a second on each link, and who talks to whom.

It looks only when it is asked, and at most once a second whoever asks: a cluster that nobody looks at pays nothing.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from testbed.errors import RunError
from testbed.network import netns
from testbed.network.openvswitch import VSwitch
from topologies.fabric import Fabric, LinkEnd

_FRESH_S = 0.9
_STALE_S = 10.0  # counters from longer ago say nothing about now
_MOST_CONVERSATIONS = 50

# A flow of the datapath between two addresses, not between whole subnets (those have a mask).
_FLOW = re.compile(r"ipv4\(src=([\d.]+),dst=([\d.]+)[,)].*? packets:(\d+),")
# A connection that was translated on its way: who asked whom, and who answered.
_TRANSLATED = re.compile(r"orig=\(src=([\d.]+),dst=([\d.]+),[^)]*\),reply=\(src=([\d.]+),")
_DEVICES = Path("/proc/thread-self/net/dev")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Conversation:
    """Packets from one address to another; ``via`` is the Service's address that the client used, if it was one.

    ``packets_per_second`` is None in the first look.
    """

    source: str
    target: str
    via: str | None
    packets_per_second: float | None


@dataclass(frozen=True)
class Traffic:
    """``links`` are bits a second in both directions together, in the fabric's order; None where it is not known."""

    links: tuple[float | None, ...]
    conversations: tuple[Conversation, ...]


@dataclass(frozen=True)
class _Counters:
    when_s: float
    octets: tuple[int | None, ...]
    packets: Mapping[Pair, int]
    services: Mapping[Pair, str]


class TrafficMeter:
    """Looks at the counters of links and bridges. Thread-safe."""

    def __init__(self, fabric: Fabric, switches: Mapping[str, VSwitch]) -> None:
        self._switches = switches
        self._ends = [_countable(fabric, link.a, link.b) for link in fabric.links]
        self._lock = threading.Lock()
        self._last: _Counters | None = None
        self._traffic = Traffic((None,) * len(self._ends), ())

    def traffic(self) -> Traffic:
        """What passed since the look before this one."""
        with self._lock:
            if self._last is None or time.monotonic() - self._last.when_s >= _FRESH_S:
                now = self._look()
                self._traffic = _between(self._last, now)
                self._last = now
            return self._traffic

    def _look(self) -> _Counters:
        octets_by_device: dict[tuple[str, str], int] = {}
        for namespace in {end.element for end in self._ends if end is not None}:
            with suppress(OSError), netns.entered(namespace):
                for device, count in _device_octets(_DEVICES.read_text()):
                    octets_by_device[namespace, device] = count
        packets: dict[Pair, int] = {}
        services: dict[Pair, str] = {}
        for switch in self._switches.values():
            with suppress(OSError, RunError):  # it is being started again
                for pair, count in _flow_packets(switch.appctl("dpctl/dump-flows")):
                    packets[pair] = max(count, packets.get(pair, 0))
                services |= _service_pairs(switch.appctl("dpctl/dump-conntrack"))
        octets = tuple(
            None if end is None else octets_by_device.get((end.element, end.interface)) for end in self._ends
        )
        return _Counters(time.monotonic(), octets, packets, services)


def _countable(fabric: Fabric, *ends: LinkEnd) -> LinkEnd | None:
    """The end of a link that has a network namespace of its own; a link between two bridges has none."""
    return next((end for end in ends if fabric.element_by_name[end.element].kind != "bridge"), None)


def _device_octets(text: str) -> Iterator[tuple[str, int]]:
    """Octets received and sent by each device, of the text of ``/proc/net/dev``."""
    for line in text.splitlines()[2:]:
        device, _, counters = line.partition(":")
        columns = counters.split()
        yield device.strip(), int(columns[0]) + int(columns[8])


def _flow_packets(dump: str) -> Iterator[tuple[Pair, int]]:
    for line in dump.splitlines():
        if found := _FLOW.search(line):
            yield (found[1], found[2]), int(found[3])


def _service_pairs(dump: str) -> dict[Pair, str]:
    """The Service's address by client and endpoint, of connections whose destination was translated."""
    found = (match.groups() for match in _TRANSLATED.finditer(dump))
    return {(client, answered_by): asked for client, asked, answered_by in found if asked != answered_by}


def _between(before: _Counters | None, now: _Counters) -> Traffic:
    if before is not None and now.when_s - before.when_s > _STALE_S:
        before = None
    if before is None:
        heard = [Conversation(*pair, now.services.get(pair), None) for pair in sorted(now.packets)]
        return Traffic((None,) * len(now.octets), tuple(heard[:_MOST_CONVERSATIONS]))
    seconds = now.when_s - before.when_s
    links = tuple(
        None if old is None or new is None else max(0, new - old) * 8 / seconds
        for old, new in zip(before.octets, now.octets, strict=True)
    )
    talks = [
        Conversation(*pair, now.services.get(pair), max(0, count - before.packets.get(pair, 0)) / seconds)
        for pair, count in now.packets.items()
    ]
    talks.sort(key=lambda talk: (-(talk.packets_per_second or 0), talk.source, talk.target))
    return Traffic(links, tuple(talk for talk in talks if talk.packets_per_second)[:_MOST_CONVERSATIONS])
