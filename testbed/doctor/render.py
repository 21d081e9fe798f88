"""The doctor's report as a table for a person. Pure: facts in, something that rich prints out."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from testbed.doctor.facts import Facts
from testbed.doctor.findings import Finding, State, blockers, findings

_WORDS: dict[State, tuple[str, str]] = {
    "ok": ("yes", "green"),
    "missing": ("NO", "bold red"),
    "optional": ("no", "yellow"),
    "info": ("", "dim"),
}


def render(facts: Facts) -> Group:
    """The table, then the commands for what is missing, then the answer in one sentence."""
    found = findings(facts)
    parts: list[Table | Text] = [_table(found)]
    parts += [Text(line) for line in _remedies(found)]
    parts += [Text(""), _answer(facts)]
    return Group(*parts)


def _table(found: tuple[Finding, ...]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for header in ("", "what", "here", "detail"):
        table.add_column(header, overflow="fold")
    section = ""
    for finding in found:
        word, style = _WORDS[finding.state]
        heading = finding.section if finding.section != section else ""
        section = finding.section
        table.add_row(Text(heading, "bold"), Text(finding.name), Text(word, style), Text(finding.detail))
    return table


def _remedies(found: tuple[Finding, ...]) -> list[str]:
    lines: list[str] = []
    for state, heading in (("missing", "Nothing runs without:"), ("optional", "More would work with:")):
        lacking = [finding for finding in found if finding.state == state and finding.remedy]
        if lacking:
            width = max(len(finding.name) for finding in lacking)
            lines += ["", heading, *(f"  {finding.name:<{width}}  {finding.remedy}" for finding in lacking)]
    return lines


def _answer(facts: Facts) -> Text:
    lacking = blockers(facts)
    if lacking:
        return Text(
            "No experiment can run here as this user: " + ", ".join(item.what for item in lacking) + ".", "bold red"
        )
    datapath = "the kernel's" if facts.has_kernel_datapath else "the userspace"
    return Text(f"Experiments can run here, with {datapath} Open vSwitch datapath.", "green")
