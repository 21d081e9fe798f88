"""The outcome as JUnit XML, which CI systems show: a test case per expectation, verdict, evidence and round check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

from testbed.analysis.words import place, ratio_text, varying, what

Entry = Mapping[str, Any]


@dataclass(frozen=True)
class Case:
    """One test case. ``text`` says why it failed or was skipped, or what a passed one found."""

    suite: Literal["expectations", "verdicts", "evidence", "rounds"]
    name: str
    result: Literal["passed", "failed", "skipped"]
    text: str


def write_failure(experiment: str, reason: str, file: str | Path) -> None:
    """Write the outcome of a run without a single sample: one failed case, so that a CI system shows it."""
    _write(experiment, "", [Case("rounds", "measured", "failed", reason)], file)


def write(summary: Entry, file: str | Path) -> None:
    """Write the outcome of a summary to ``file``."""
    _write(summary["experiment"], summary.get("started") or "", cases(summary), file)


def _write(experiment: str, started: str, found: list[Case], file: str | Path) -> None:
    root = ElementTree.Element("testsuites", name=experiment)
    _count(root, found)
    for suite in dict.fromkeys(case.suite for case in found):
        members = [case for case in found if case.suite == suite]
        element = ElementTree.SubElement(root, "testsuite", name=suite)
        if started:
            element.set("timestamp", started)
        _count(element, members)
        for case in members:
            _append(element, case, experiment)
    ElementTree.indent(root)
    Path(file).write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def cases(summary: Entry) -> list[Case]:
    """The test cases of a summary. "Not distinguishable" is a result and passes; "inconclusive" is none and fails."""
    found = [
        Case(
            "expectations",
            item["text"],
            "skipped" if item["met"] is None else "passed" if item["met"] else "failed",
            item["detail"],
        )
        for item in summary["expectations"]
    ]
    primary = [entry for entry in summary["comparisons"] if entry["role"] == "primary"]
    names = varying(primary)
    for entry in primary:
        failed, skipped = entry["verdict"] == "inconclusive", entry["verdict"] == "not judged"
        found.append(
            Case(
                "verdicts",
                f"{what(entry)} {place(entry, names)}".strip(),
                "failed" if failed else "skipped" if skipped else "passed",
                f"{entry['verdict_text']}; ratio {ratio_text(entry)}",
            )
        )
    for item in summary["evidence"]:
        missing = item["rounds"] - item["ok_rounds"]
        found.append(
            Case(
                "evidence",
                f"{item['build']} {item['path']} {item['arm']}",
                "failed" if missing else "passed",
                "; ".join(item["problems"]) if missing else f"decoded in {item['ok_rounds']} rounds",
            )
        )
    for build in summary["rounds"]["builds"]:
        causes = [
            f"round {void['round']} attempt {void['attempt']}: {'; '.join(void['causes'])}"
            for void in summary["rounds"]["void"]
            if void["build"] == build["build"]
        ]
        text = "\n".join([f"{build['valid']} of {build['planned']} rounds valid, {build['void']} void", *causes])
        found.append(Case("rounds", str(build["build"]), "passed" if build["valid"] else "failed", text))
    if summary["status"] != "complete":
        found.append(Case("rounds", "the whole run", "failed", f"the run ended early (status: {summary['status']})"))
    return found


def _count(element: ElementTree.Element, members: list[Case]) -> None:
    element.set("tests", str(len(members)))
    element.set("failures", str(sum(case.result == "failed" for case in members)))
    element.set("skipped", str(sum(case.result == "skipped" for case in members)))
    element.set("errors", "0")


def _append(suite: ElementTree.Element, case: Case, experiment: str) -> None:
    element = ElementTree.SubElement(suite, "testcase", name=case.name, classname=f"{experiment}.{case.suite}")
    if case.result == "passed":
        ElementTree.SubElement(element, "system-out").text = case.text
    else:
        tag = "failure" if case.result == "failed" else "skipped"
        ElementTree.SubElement(element, tag, message=case.text.partition("\n")[0]).text = case.text
