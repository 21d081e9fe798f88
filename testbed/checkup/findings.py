"""What a check has to say, as a value, as a line of text and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

FORMAT = "testbed-checkup/v1"

# fault: something does not work; info: a figure, neither good nor bad; ok: looked at, and nothing found.
State = Literal["fault", "info", "ok"]
_WORDS: dict[State, str] = {"fault": "FAULT", "info": "info", "ok": "ok"}


@dataclass(frozen=True)
class Finding:
    """``what`` is the case, by which ``evidence``, and the ``remedy``: a command or what to look at ("" if none)."""

    subject: str
    state: State
    what: str
    evidence: str = ""
    remedy: str = ""


def exec_command(cluster: str, place: str, *argv: str) -> str:
    """The command line, for people, that runs something in a place of a cluster."""
    return f"testbed exec --name {cluster} {place} -- {' '.join(argv)}"


def faults(found: Sequence[Finding]) -> list[Finding]:
    """Those that say that something does not work."""
    return [finding for finding in found if finding.state == "fault"]


def as_text(found: Sequence[Finding]) -> str:
    """One line a finding, and the answer in one sentence."""
    width = max((len(finding.subject) for finding in found), default=0)
    lines = [_line(finding, width) for finding in found]
    number = len(faults(found))
    lines.append(f"{number} fault{'' if number == 1 else 's'} found" if number else "nothing found")
    return "".join(f"{line}\n" for line in lines)


def _line(finding: Finding, width: int) -> str:
    said = f"{_WORDS[finding.state]:<5}  {finding.subject:<{width}}  {finding.what}"
    said += f" [{finding.evidence}]" if finding.evidence else ""
    return said + (f" => {finding.remedy}" if finding.remedy else "")


def as_data(found: Sequence[Finding]) -> dict[str, Any]:
    """The same as values that JSON can hold."""
    return {"format": FORMAT, "faults": len(faults(found)), "findings": [asdict(finding) for finding in found]}
