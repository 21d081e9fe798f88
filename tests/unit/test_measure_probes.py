"""Every probe's parser on what its tool really printed (tests/unit/data/measure)."""

from __future__ import annotations

import json
import statistics
import sys
from array import array
from pathlib import Path

import pytest

from testbed.measure.events.happening import Happening
from testbed.measure.probes import PROBES, command, exchange, first_packet, http, icmp_rtt, sockperf, throughput
from testbed.measure.probes.base import Request
from testbed.measure.process import ProbeFailure, last_line, parse_socket_table
from testbed.spec.models import FIELDS_OF_KIND, Probe

DATA = Path(__file__).parent / "data" / "measure"


def recorded(name: str) -> str:
    return (DATA / name).read_text()


def test_every_kind_of_probe_can_be_run() -> None:
    assert set(PROBES) == set(FIELDS_OF_KIND)


class TestOwnClient:
    def test_times_are_read_as_they_were_written(self) -> None:
        header = f"sent=3 lost=1 byteorder={sys.byteorder}\n".encode()
        sent, lost, times = exchange.parse(header + array("q", [54_321, 60_000]).tobytes())
        assert (sent, lost, list(times)) == (3, 1, [54_321, 60_000])

    def test_either_byte_order_is_read(self) -> None:
        for order in ("little", "big"):
            output = f"sent=1 lost=0 byteorder={order}\n".encode() + (54_321).to_bytes(8, order)
            assert list(exchange.parse(output)[2]) == [54_321]

    def test_segments_sent_again_are_read_by_their_name(self) -> None:
        snmp = "Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: MaxConn OutSegs RetransSegs InErrs\nTcp: -1 500 7 0\n"
        assert exchange.parse_segments_sent_again(snmp) == 7

    @pytest.mark.parametrize("output", [b"", b"sent=1 lost=0\n", b"sent=1 lost=0 byteorder=little\n1234567"])
    def test_output_that_is_cut_off_is_a_failure(self, output: bytes) -> None:
        with pytest.raises(ProbeFailure, match="cut off"):
            exchange.parse(output)

    def test_first_packet_answers(self) -> None:
        assert first_packet.parse("845297") == 845.297
        assert first_packet.parse("lost") is None
        with pytest.raises(ProbeFailure, match="Traceback"):
            first_packet.parse("Traceback")


class TestSockperf:
    def test_round_trips_are_receiving_minus_sending(self) -> None:
        lost, times_us = sockperf.parse(recorded("sockperf.txt").encode())
        assert lost == 0
        assert len(times_us) == 40
        assert times_us[0] == 31.708  # 2.416477319 - 2.416445611

    def test_what_sockperf_calls_latency_is_half_a_round_trip(self) -> None:
        _, times_us = sockperf.parse(recorded("sockperf.txt").encode())
        rows = [line.split(", ") for line in recorded("sockperf.txt").splitlines() if line[:1].isdigit()]
        for row, round_trip_us in zip(rows, times_us, strict=True):
            assert float(row[3]) * 2 == pytest.approx(round_trip_us, abs=0.002)

    def test_dropped_messages_are_counted(self) -> None:
        text = recorded("sockperf.txt").replace("dropped messages = 0", "dropped messages = 3")
        assert sockperf.parse(text.encode())[0] == 3


class TestPing:
    def test_every_reply_is_a_sample(self) -> None:
        lost, times_us = icmp_rtt.parse(recorded("ping_closed_loop.txt"), 0.0, interrupted_at=None)
        assert (lost, len(times_us)) == (0, 25)
        # ping's own summary of the same replies: 0.004/0.005/0.033 ms
        assert (min(times_us), max(times_us)) == (4.0, 33.0)
        assert statistics.mean(times_us) == pytest.approx(5, abs=1)

    def test_requests_without_a_reply_are_lost(self) -> None:
        lost, times_us = icmp_rtt.parse(recorded("ping_loss.txt"), 0.0, interrupted_at=None)
        assert (lost, len(times_us)) == (4, 16)

    def test_replies_during_the_warm_up_are_left_out(self) -> None:
        _, times_us = icmp_rtt.parse(recorded("ping_loss.txt"), 0.2, interrupted_at=None)
        assert len(times_us) == 12  # the first four came within 77 ms, the next 213 ms after the first

    def test_requests_that_were_under_way_at_the_end_are_not_lost(self) -> None:
        text = recorded("ping_closed_loop.txt").replace("25 packets transmitted", "28 packets transmitted")
        last_reply = 1795180382.204928
        assert icmp_rtt.parse(text, 0.0, interrupted_at=last_reply + 0.04)[0] == 0
        assert icmp_rtt.parse(text, 0.0, interrupted_at=last_reply + 1.1)[0] == 3  # they had their time
        assert icmp_rtt.parse(text, 0.0, interrupted_at=None)[0] == 3

    def test_sequence_numbers_begin_anew(self) -> None:
        text = recorded("ping_closed_loop.txt").replace(
            "25 packets transmitted, 25", "65563 packets transmitted, 65560"
        )
        assert icmp_rtt.parse(text, 0.0, interrupted_at=1795180382.25)[0] == 1

    def test_no_reply_at_all(self) -> None:
        assert icmp_rtt.parse(recorded("ping_none.txt"), 0.0, interrupted_at=None) == (3, [])

    def test_an_error_is_a_failure(self) -> None:
        with pytest.raises(ProbeFailure, match="no summary"):
            icmp_rtt.parse("ping: sendmsg: Network is unreachable\n", 0.0, interrupted_at=None)


class TestIperf3:
    def test_tcp_intervals(self) -> None:
        values, retransmits = throughput.parse(recorded("iperf3_tcp.json"), 0.0, 1.0)
        document = json.loads(recorded("iperf3_tcp.json"))
        assert len(values) == 10
        received = document["server_output_json"]["end"]["sum_received"]
        assert statistics.mean(values) == pytest.approx(received["bits_per_second"] / 1e6, rel=0.02)
        assert retransmits == document["end"]["sum_sent"]["retransmits"]

    def test_the_warm_up_is_left_out(self) -> None:
        all_values, _ = throughput.parse(recorded("iperf3_tcp.json"), 0.0, 1.0)
        values, _ = throughput.parse(recorded("iperf3_tcp.json"), 0.3, 1.0)
        assert values == all_values[3:]

    def test_udp_is_what_the_receiver_got(self) -> None:
        values, _ = throughput.parse(recorded("iperf3_udp.json"), 0.0, 1.0)
        document = json.loads(recorded("iperf3_udp.json"))
        sent_mbps = [each["sum"]["bits_per_second"] / 1e6 for each in document["intervals"]]
        assert len(values) == 10
        assert statistics.mean(values) < 0.7 * statistics.mean(sent_mbps)  # half of it was lost on the way

    def test_iperf3s_own_words_are_the_cause(self) -> None:
        with pytest.raises(ProbeFailure, match="unable to connect to server: Connection refused"):
            throughput.parse(recorded("iperf3_refused.json"), 0.0, 1.0)

    @pytest.mark.parametrize(("output", "cause"), [("", "no result"), ("{}", "no interval"), ("[", "no result")])
    def test_no_figures_is_a_failure(self, output: str, cause: str) -> None:
        with pytest.raises(ProbeFailure, match=cause):
            throughput.parse(output, 0.0, 1.0)


class TestCommand:
    def probe(self, **fields: object) -> Probe:
        return Probe.model_validate({"kind": "command", "argv": ["tool"], "metric": "rtt_us"} | fields)

    def test_every_match_of_the_pattern_is_a_figure_in_the_metrics_unit(self) -> None:
        text = recorded("ping_loss.txt")
        figures = command.parse(text, self.probe(pattern=r"time=([\d.]+) ms", scale=1000))
        assert figures == icmp_rtt.parse(text, 0.0, interrupted_at=None)[1]

    def test_a_json_path_picks_one_figure_or_all_of_a_list(self) -> None:
        text = recorded("iperf3_tcp.json")
        one = self.probe(json_path="end.sum_sent.retransmits", metric="segments")
        assert command.parse(text, one) == [json.loads(text)["end"]["sum_sent"]["retransmits"]]
        received = "server_output_json.intervals[*].sum.bits_per_second"
        every = self.probe(json_path=received, metric="throughput_mbps", scale=1e-6)
        assert [round(value, 3) for value in command.parse(text, every)][:10] == throughput.parse(text, 0.0, 1.0)[0]
        second = self.probe(
            json_path="server_output_json.intervals[1].sum.bits_per_second", metric="throughput_mbps", scale=1e-6
        )
        assert command.parse(text, second) == [command.parse(text, every)[1]]

    @pytest.mark.parametrize(
        ("fields", "output", "cause"),
        [
            ({"pattern": r"x=(\d+)"}, "y=1", "no figure"),
            ({"pattern": r"x=(\w+)"}, "x=slow", "not a number"),
            ({"json_path": "a.b"}, "{}", "no figure"),
            ({"json_path": "a[0]"}, '{"a": {"0": 1}}', "no figure"),
            ({"json_path": "a[3]"}, '{"a": [1]}', "no figure"),
            ({"json_path": "a"}, '{"a": null}', "not a number"),
            ({"json_path": "a"}, "oops", "not JSON"),
        ],
    )
    def test_output_without_a_figure_is_a_failure(self, fields: dict[str, str], output: str, cause: str) -> None:
        with pytest.raises(ProbeFailure, match=cause):
            command.parse(output, self.probe(**fields))


def test_sockets_that_wait_for_clients_are_found_in_the_kernels_tables() -> None:
    assert parse_socket_table(recorded("proc_net_tcp.txt"), "0A") == {("0200000A:4331", "5625706")}
    # The third socket is connected: it is a client's.
    assert parse_socket_table(recorded("proc_net_udp.txt"), "07") == {
        ("0200000A:2B67", "5624193"),
        ("0200000A:426F", "5625707"),
    }


def test_the_last_line_that_says_something_is_the_cause() -> None:
    assert last_line(b"Traceback:\n  File\nOSError: busy\n\n") == "OSError: busy"
    assert last_line(b"\n") == "it said nothing"


class TestHttp:
    def probe(self, **fields: object) -> Probe:
        return Probe.model_validate({"kind": "http", "rate_per_s": 100.0} | fields)

    def test_rows_become_requests_in_the_order_of_their_times(self) -> None:
        rows = [[10_000_000, 11_500_000, 200, 1, 0], [0, 2_000_000, 0, 0, 1]]
        document = json.dumps({"requests": rows, "pods": ["", "web-1"], "problems": ["", "refused"]})
        found = http.parse(f"begin 123\n{document}\n".encode())
        assert found == (Request(0.0, 2.0, 0, "", "refused"), Request(10.0, 11.5, 200, "web-1"))
        assert [request.took_ms for request in found] == [2.0, 1.5]
        with pytest.raises(ProbeFailure, match="cut off"):
            http.parse(b'begin 123\n{"requests": [')

    def test_what_has_no_good_answer_is_told_apart(self) -> None:
        requests = [
            Request(0, 1, 200, "a"),
            Request(10, 70, 200, "a"),
            Request(20, 21, 503, "a"),
            Request(30, 31, 0, "", "refused"),
            Request(40, 1040, 0, "", "timeout"),
        ]
        result = http.result_of(self.probe(late_ms=50.0), requests)
        assert dict(result.values) == {"request_us": [1000, 60000], "failed": [2], "late": [1]}
        assert (result.lost, result.loss_is_a_result) == (1, False)
        with pytest.raises(ProbeFailure, match=r"no good answer from web to 2 requests \(refused, status 503\)"):
            http.result_of(self.probe(), requests[2:4], aim="web")

    def test_a_closed_loop_says_how_many_requests_there_were_a_second(self) -> None:
        probe = self.probe(rate_per_s=None, duration_s=0.5)
        values = dict(http.result_of(probe, [Request(0, 1, 200, "a"), Request(1, 2, 200, "a")]).values)
        assert values["requests_per_s"] == [4]

    def test_removed_pods_are_wrong_from_the_event_until_they_are_back(self) -> None:
        removed = Happening("to 1", 100.0, 120.0, ("b", "c"), ())
        back = Happening("to 3", 300.0, 350.0, (), ("b",))
        requests = [
            Request(95, 101, 200, "b"),  # was under way
            Request(105, 107, 200, "b"),
            Request(110, 112, 200, "c"),
            Request(115, 130, 0, "c", "reset"),
            Request(310, 311, 200, "b"),  # is right again
            Request(200, 201, 200, "a"),
        ]
        assert http.stale_times_ms(requests, [removed, back]) == [12.0]
        assert http.stale_times_ms([*requests, Request(320, 321, 200, "c")], [removed, back]) == [221.0]
        assert http.stale_times_ms(requests[-1:], [removed, back]) == [0.0]
