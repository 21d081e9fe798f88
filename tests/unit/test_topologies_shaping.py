"""Queueing disciplines of a link, against the commands a person would type."""

from __future__ import annotations

import pytest

from topologies.fabric import Shaping
from topologies.shaping import qdisc_commands

ROOT = "tc qdisc replace dev x root handle"


@pytest.mark.parametrize(
    ("shaping", "commands"),
    [
        (Shaping(), []),
        (Shaping(rate_mbit=100), [f"{ROOT} 1: tbf rate 100000000bit burst 12500b latency 50ms"]),
        (Shaping(rate_mbit=0.5), [f"{ROOT} 1: tbf rate 500000bit burst 10000b latency 50ms"]),
        (Shaping(delay_ms=2), [f"{ROOT} 10: netem delay 2000us"]),
        (Shaping(delay_ms=0.5, jitter_ms=0.1), [f"{ROOT} 10: netem delay 500us 100us distribution normal"]),
        (Shaping(loss_pct=0.1), [f"{ROOT} 10: netem loss random 0.1%"]),
        (
            Shaping(rate_mbit=1000, delay_ms=1, queue_packets=50),
            [
                f"{ROOT} 1: tbf rate 1000000000bit burst 125000b latency 50ms",
                "tc qdisc replace dev x parent 1:1 handle 10: netem limit 50 delay 1000us",
            ],
        ),
    ],
)
def test_commands(shaping: Shaping, commands: list[str]) -> None:
    assert [" ".join(command) for command in qdisc_commands("x", shaping)] == commands


def test_only_tbf_needs_no_netem() -> None:
    assert not Shaping(rate_mbit=1).needs_netem
    assert all(Shaping(**{name: 1}).needs_netem for name in ("delay_ms", "jitter_ms", "loss_pct", "queue_packets"))
