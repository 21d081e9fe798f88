"""What makes a run or a round unfit: offloads, steal, lost packets, counters that disagree."""

from __future__ import annotations

import pytest

from testbed.errors import RunError
from testbed.measure import fidelity
from testbed.measure.environment import parse_cpu_model
from testbed.measure.fidelity import CpuTimes

STAT = """cpu  96978 10 39554 505431 922 5 7363 145 77 8
cpu0 40549 0 17322 264154 90 0 2861 69 0 0
"""
PROCESSES = [
    "7 (ovs-vswitchd) S 1 7 7 0 -1 4194560 100 0 0 0 50 60 0 0 20 0 7 0 100 1 1",
    "9 (a ) b) S 1 9 9 0 -1 4194560 100 0 0 0 1 2 30 40 20 0 1 0 100 1 1",
]


def test_processor_times_add_up_without_counting_guests_twice() -> None:
    times = fidelity.parse_cpu_times(STAT, PROCESSES)
    busy = 96978 + 10 + 39554 + 5 + 7363
    assert times == CpuTimes(total=busy + 505431 + 922 + 145, steal=145, busy=busy, box=110 + 73)


@pytest.mark.parametrize(("steal", "void"), [(0, False), (20, False), (21, True)])
def test_more_than_two_percent_steal_voids_a_round(steal: int, void: bool) -> None:
    percent = fidelity.steal_pct(CpuTimes(0, 0, 0, 0), CpuTimes(1000, steal, 0, 0))
    assert percent == steal / 10
    assert bool(fidelity.steal_causes(percent)) is void


def test_no_time_between_readings_is_no_steal() -> None:
    assert fidelity.steal_pct(CpuTimes(5, 1, 0, 0), CpuTimes(5, 1, 0, 0)) == 0
    assert fidelity.other_load_pct(CpuTimes(5, 1, 0, 0), CpuTimes(5, 1, 0, 0)) == 0


def test_what_the_box_itself_uses_is_no_other_load() -> None:
    before, after = CpuTimes(0, 0, 0, 0), CpuTimes(total=1000, steal=0, busy=600, box=450)
    assert fidelity.other_load_pct(before, after) == 15
    assert "15%" in (fidelity.other_load_note(15) or "")
    assert fidelity.other_load_note(10) is None
    # Rounding of clock ticks may give the box more than was seen in all.
    assert fidelity.other_load_pct(before, CpuTimes(1000, 0, 400, 402)) == 0


def test_lost_probes_void_a_round() -> None:
    assert fidelity.lost_causes(0, "udp_rr", "far") == []
    assert fidelity.lost_causes(3, "udp_rr", "far") == ["udp_rr on far: 3 lost, where no loss is configured"]


def counters(**each: tuple[int, int]) -> fidelity.Counters:
    return {node: {"tunnel_tx_packets": sent, "lost_upcalls": lost} for node, (sent, lost) in each.items()}


ZERO = counters(n1=(0, 0), n2=(0, 0))


@pytest.mark.parametrize(
    ("after", "mode", "tunnelled", "causes"),
    [
        (counters(n1=(100, 0), n2=(100, 0)), "overlay", 100, []),
        (counters(n1=(99, 0), n2=(100, 0)), "overlay", 100, ["199 packets into tunnels, at least 200"]),
        (ZERO, "overlay", 0, []),
        (ZERO, "routed", 0, []),
        (counters(n1=(0, 0), n2=(1, 0)), "routed", 0, ["1 packets left through tunnels in routed mode"]),
        (counters(n1=(0, 2), n2=(0, 3)), "routed", 0, ["5 upcalls lost"]),
    ],
)
def test_counters_must_agree_with_what_was_measured(
    after: fidelity.Counters, mode: str, tunnelled: int, causes: list[str]
) -> None:
    found = fidelity.counter_causes(ZERO, after, mode, tunnelled)
    assert len(found) == len(causes)
    assert all(part in cause for part, cause in zip(causes, found, strict=True))


def test_transmit_checksum_offload_stops_the_run_with_the_userspace_datapath() -> None:
    facts = {"transmit_checksum_offload": {"p_default_a/eth0": True, "n1/gw": False}, "ports_per_vswitchd": {"n1": 3}}
    with pytest.raises(RunError, match="p_default_a/eth0"):
        fidelity.judge_network("netdev", facts)
    assert fidelity.judge_network("system", facts) == []


def test_crowded_switches_are_told() -> None:
    facts = {"ports_per_vswitchd": {"n1": 25, "n2": 26, "n3": 40}}
    assert fidelity.judge_network("system", facts) == []
    (warning,) = fidelity.judge_network("netdev", facts)
    assert "2 nodes have more than 25 ports (up to 40)" in warning


def test_the_processors_name_is_read_where_there_is_one() -> None:
    assert parse_cpu_model("processor\t: 0\nmodel name\t: Example 2.6 GHz\n") == "Example 2.6 GHz"
    assert parse_cpu_model("processor\t: 0\nBogoMIPS\t: 48.00\n") == "unknown"
