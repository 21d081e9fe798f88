"""Checks of what is made of the measurements: what is compared, the primary family, and expectations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from testbed.errors import Problem
from testbed.spec.check_probes import Names
from testbed.spec.models import LATENCY_KINDS, LOSS_KINDS, Comparison, Expectation, Path, Probe
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.parts import Parts
from testbed.spec.source import Document, FieldPath

_SUBJECTS: dict[Comparison, str] = {
    "mode": "modes are",
    "proxy": "proxies are",
    "path": "paths are",
    "nothing": "nothing is",
}


@dataclass(frozen=True)
class Compared:
    """What the experiment compares: ``by`` as written or by default, and ``written`` whether it is written.

    ``baselines`` maps paths to those that they are compared with, as far as both are there.
    """

    by: Comparison
    written: bool
    names: Names
    baselines: Mapping[str, str]


def compared_of(parts: Parts, names: Names) -> Compared:
    """What an experiment compares, as far as it is sound."""
    baselines = {
        name: path.baseline
        for name, path in parts.paths.items()
        if path.baseline is not None and path.baseline in names.paths and path.baseline != name
    }
    return Compared(parts.compared, parts.compare is not None, names, baselines)


def comparison_problems(
    document: Document, compared: Compared, paths: Mapping[str, Path], probes: Mapping[int, Probe], primary: str | None
) -> Iterator[Problem]:
    """Baselines that are no other path, a comparison of only one thing, and a primary probe that has no part in it."""
    names = compared.names
    for name, path in paths.items():
        field: FieldPath = ("paths", name, "baseline")
        if path.baseline is None:
            continue
        if path.baseline == name:
            yield document.problem(field, "a path cannot be its own baseline", path.baseline)
        elif path.baseline not in names.paths:
            others = [other for other in names.paths if other != name]
            message = f"there is no such path{suggestion(path.baseline, others)}"
            yield document.problem(field, message, path.baseline, names_text(others))
        elif compared.by != "path":
            yield document.problem(field, f"has no effect, as {_SUBJECTS[compared.by]} compared", path.baseline)
    if compared.written:
        few = {
            "mode": len(names.modes) < 2 and "two modes",
            "proxy": len(names.proxies) < 2 and "several proxies",
            "path": not compared.baselines and "a path with a baseline",
            "nothing": False,
        }
        if few[compared.by]:
            yield document.problem(("compare",), f"needs {few[compared.by]}", compared.by)
    yield from _primary_problems(document, compared, probes, primary)


def _primary_problems(
    document: Document, compared: Compared, probes: Mapping[int, Probe], primary: str | None
) -> Iterator[Problem]:
    names = compared.names
    if primary is not None and not names.has_label(primary):
        message = f"there is no such probe{suggestion(primary, names.labels)}"
        yield document.problem(("primary",), message, primary, names_text(names.labels))
    if compared.by == "nothing":
        if primary is not None:
            yield document.problem(("primary",), "has no effect, as nothing is compared", primary)
        return
    index = primary_index(probes, primary)
    if index is None:
        return
    probe = probes[index]
    own = (probe.paths or names.paths) if probe.takes_paths else ()
    if not probe.takes_paths:
        # The time to program is one figure of the whole cluster, and can be compared between modes and proxies.
        if primary is not None and (probe.kind != "program" or compared.by == "path"):
            message = "the primary family is a ratio per path, and this probe has no paths"
            yield document.problem(("primary",), message, primary)
    elif compared.by == "path" and compared.baselines and not compared.baselines.keys() & set(own):
        field: FieldPath = ("primary",) if primary is not None else ("probes", index)
        message = f"the primary probe {probe.label} runs on no path that has a baseline"
        yield document.problem(field, message, primary, names_text(compared.baselines))
    for path in own if compared.by == "path" else ():
        baseline = compared.baselines.get(path)
        if baseline is not None and baseline not in own:
            message = f"runs on {path} and not on its baseline, so the primary family lacks their ratio"
            yield document.problem(("probes", index, "paths"), message, list(own), f"{baseline} beside {path}")


def primary_index(probes: Mapping[int, Probe], primary: str | None) -> int | None:
    """Which probe the primary family is of, as :attr:`testbed.spec.models.Experiment.primary_probe`."""
    if primary is not None:
        return next((index for index, probe in probes.items() if probe.label == primary), None)
    latency = (index for index, probe in probes.items() if probe.kind in LATENCY_KINDS)
    return next(latency, next(iter(probes), None))


def expectation_problems(
    document: Document, expectations: Mapping[int, Expectation], probes: Mapping[int, Probe], compared: Compared
) -> Iterator[Problem]:
    """Expectations against what the file has."""
    by_label = {probe.label: probe for probe in probes.values()}
    for index, expectation in expectations.items():
        path: FieldPath = ("expect", index)
        yield from _reference_problems(document, path, expectation, compared.names)
        probe = by_label.get(expectation.probe)
        if probe:
            yield from _probe_problems(document, path, expectation, probe, compared.names)
        if expectation.statistic.startswith("ratio"):
            yield from _ratio_problems(document, path, expectation, compared)
        low, high = expectation.at_least, expectation.at_most
        if low is None and high is None:
            yield document.problem(path, "needs at_most or at_least")
        if low is not None and high is not None and low > high:
            yield document.problem((*path, "at_least"), f"is more than at_most {high:g}, so nothing can meet it", low)


def _reference_problems(
    document: Document, path: FieldPath, expectation: Expectation, names: Names
) -> Iterator[Problem]:
    if not names.has_label(expectation.probe):
        message = f"there is no such probe{suggestion(expectation.probe, names.labels)}"
        yield document.problem((*path, "probe"), message, expectation.probe, names_text(names.labels))
    for field, value, known in (
        ("path", expectation.path, names.paths),
        ("build", expectation.build, names.builds),
        ("mode", expectation.mode, names.modes),
        ("proxy", expectation.proxy, names.proxies),
    ):
        if value is not None and value not in known:
            message = f"there is no such {field}{suggestion(value, known)}"
            yield document.problem((*path, field), message, value, names_text(known))


def _probe_problems(
    document: Document, path: FieldPath, expectation: Expectation, probe: Probe, names: Names
) -> Iterator[Problem]:
    own_paths = (probe.paths or names.paths) if probe.takes_paths else ()
    if expectation.path in names.paths and expectation.path not in own_paths:
        message = f"the probe {probe.label} does not run on this path"
        yield document.problem((*path, "path"), message, expectation.path, names_text(own_paths))
    if expectation.payload_bytes is not None and expectation.payload_bytes not in probe.payloads:
        sizes = names_text(str(size) for size in probe.payloads if size is not None)
        message = f"the probe {probe.label} does not have this payload size"
        yield document.problem((*path, "payload_bytes"), message, expectation.payload_bytes, sizes)
    if expectation.statistic == "loss" and probe.kind not in LOSS_KINDS:
        message = f"a probe of kind {probe.kind} does not count losses"
        yield document.problem((*path, "statistic"), message, "loss", "on kinds " + names_text(LOSS_KINDS))


def _ratio_problems(
    document: Document, path: FieldPath, expectation: Expectation, compared: Compared
) -> Iterator[Problem]:
    names, statistic = compared.names, (*path, "statistic")
    if compared.by == "nothing":
        yield document.problem(statistic, "nothing is compared, so there is no ratio", expectation.statistic)
        return
    if compared.by == "mode":
        if len(names.modes) < 2:
            yield document.problem(statistic, "needs both modes in the experiment", expectation.statistic)
        if expectation.mode is not None:
            message = "a ratio is of both modes; it cannot be of one"
            yield document.problem((*path, "mode"), message, expectation.mode)
    elif compared.by == "proxy":
        if names.proxies and expectation.proxy == names.proxies[0]:
            message = "the first proxy is what the others are compared with"
            yield document.problem((*path, "proxy"), message, expectation.proxy, names_text(names.proxies[1:]))
    elif expectation.path in names.paths and expectation.path not in compared.baselines:
        message = "paths are compared, and this one has no baseline"
        yield document.problem((*path, "path"), message, expectation.path, names_text(compared.baselines))
