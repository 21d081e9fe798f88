"""A trace as text for people, and as plain values for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from testbed.trace.values import End, Hop, Packet, Step, Trace, Way

FORMAT = "testbed-trace/v1"
_INDENT = "    "
_FLOW_WORD = "flow"


def trace_as_text(trace: Trace) -> str:
    """The request hop by hop, then the reply, what became of each, and what was assumed."""
    parts = [f"{trace.source} -> {trace.target}\n", _way_text("REQUEST", trace.request)]
    if trace.reply is not None:
        received = trace.request.delivered
        is_refusal = received is not None and received.reason != ""
        parts.append(_way_text("REPLY", trace.reply, "that refusal" if is_refusal else ""))
    if trace.assumptions:
        parts.append("Assumed\n" + "".join(f"  - {text}\n" for text in trace.assumptions))
    return "\n".join(parts)


def trace_as_data(trace: Trace) -> dict[str, Any]:
    """The same as values that JSON can hold."""
    return {
        "format": FORMAT,
        "from": trace.source,
        "to": trace.target,
        "succeeded": trace.succeeded,
        "request": _way_data(trace.request),
        "reply": None if trace.reply is None else _way_data(trace.reply),
        "assumptions": list(trace.assumptions),
    }


def _way_text(title: str, way: Way, what: str = "") -> str:
    """``what`` is delivered, if there is a word for it."""
    lines = [title]
    for number, hop in enumerate(way.hops, 1):
        lines.append(f"{number:>2}  {hop.place}   [{_packet_text(hop.packet)}]")
        lines += _steps_text(hop.steps)
    lines += [_end_text(end, what) for end in way.ends]
    return "\n".join(lines) + "\n"


def _packet_text(packet: Packet) -> str:
    inside = f" around {packet.inner.tuple}" if packet.inner is not None else ""
    return f"{packet.tuple}, TTL {packet.ttl}{inside}"


def _steps_text(steps: Sequence[Step]) -> list[str]:
    flows = [step for step in steps if step.kind == "flow"]
    columns = [_flow_columns(step) for step in flows]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)] if columns else []
    lines = []
    for step in steps:
        if step.kind == "flow":
            cells = _flow_columns(step)
            row = "  ".join(f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True))
            lines.append(f"{_INDENT}{_FLOW_WORD:<10} {row}".rstrip())
        else:
            lines.append(f"{_INDENT}{_word(step):<10} {step.text}")
    return lines


def _word(step: Step) -> str:
    return {"encapsulation": "tunnel", "decapsulation": "tunnel", "output": "out"}.get(step.kind, step.kind)


def _flow_columns(step: Step) -> tuple[str, ...]:
    data = step.data
    priority = "-" if data["priority"] is None else str(data["priority"])
    return data["table"], f"{priority:>4}", data["match"] or "-", data["subject"] or "-", step.text


def _end_text(end: End, what: str) -> str:
    # What is received with a reason is received by a kernel, and wanted by no program.
    received = "REFUSED by" if end.reason else "DELIVERED to"
    word = {"delivered": received, "refused": "REFUSED at", "dropped": "DROPPED at"}[end.fate]
    said = end.reason or (what if end.fate == "delivered" else "")
    return f"=>  {word} {end.place}" + (f": {said}" if said else "")


def _way_data(way: Way) -> dict[str, Any]:
    return {"hops": [_hop_data(hop) for hop in way.hops], "ends": [_end_data(end) for end in way.ends]}


def _hop_data(hop: Hop) -> dict[str, Any]:
    steps = [{"kind": step.kind, "text": step.text, **step.data} for step in hop.steps]
    return {"place": hop.place, "packet": _packet_data(hop.packet), "steps": steps}


def _end_data(end: End) -> dict[str, Any]:
    return {"fate": end.fate, "place": end.place, "reason": end.reason, "packet": _packet_data(end.packet)}


def _packet_data(packet: Packet) -> dict[str, Any]:
    found: dict[str, Any] = {
        "protocol": packet.tuple.protocol,
        "source": str(packet.tuple.source),
        "source_port": packet.tuple.source_port,
        "destination": str(packet.tuple.destination),
        "destination_port": packet.tuple.destination_port,
        "ttl": packet.ttl,
        "eth_src": packet.eth_src,
        "eth_dst": packet.eth_dst,
    }
    if packet.inner is not None:
        found["vni"], found["inner"] = packet.vni, _packet_data(packet.inner)
    return found
