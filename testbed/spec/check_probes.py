"""Checks of what refers to something else: paths to pods and nodes, probes to paths, expectations to all of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from testbed.cluster.objects import object_name, object_namespace, uses_host_network
from testbed.errors import Problem
from testbed.spec.check_network import BuiltFabric
from testbed.spec.endpoints import EndpointRef, parse_endpoint, parse_target
from testbed.spec.manifests import Manifest
from testbed.spec.models import FIELDS_OF_KIND, LOSS_KINDS, Expectation, Path, Probe
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.source import Document, FieldPath


@dataclass(frozen=True)
class Names:
    """Every name that can be referred to, those of unsound parts included: what is wrong there is said there."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    builds: tuple[str, ...]
    modes: tuple[str, ...]


def path_problems(
    document: Document,
    paths: Mapping[str, Path],
    built: Sequence[BuiltFabric],
    manifests: Sequence[Manifest] | None,
    modes: Sequence[str],
) -> Iterator[Problem]:
    """Endpoints that are not there or cannot meet. ``manifests`` is None when not every manifest could be read."""
    # Pods with addresses of their own, of which the fabric knows nothing in overlay mode.
    own = {
        EndpointRef("pod", object_namespace(manifest.object), object_name(manifest.object))
        for manifest in manifests or ()
        if not uses_host_network(manifest.object)
    }
    for name, path in paths.items():
        ends = {"from": parse_endpoint(path.source)}
        target = parse_target(path.target).endpoint
        if target is None:
            continue
        ends["to"] = target
        if ends["from"] == ends["to"]:
            yield document.problem(("paths", name, "to"), "is the same as from", path.target)
        for field, end in ends.items():
            yield from _endpoint_problems(document, ("paths", name, field), end, built, manifests)
        if ends["from"].kind == "ext" and ends["to"].kind == "ext":
            yield document.problem(("paths", name), "at least one end must be a pod or a node")
        elif "overlay" in modes and any(end.kind == "ext" for end in ends.values()) and own & set(ends.values()):
            message = "an external host and a pod do not reach each other in overlay mode"
            allowed = "modes: [routed], or a node or a hostNetwork pod instead of the pod"
            yield document.problem(("paths", name), message, allowed=allowed)


def _endpoint_problems(
    document: Document,
    path: FieldPath,
    end: EndpointRef,
    built: Sequence[BuiltFabric],
    manifests: Sequence[Manifest] | None,
) -> Iterator[Problem]:
    if end.kind == "pod":
        if manifests is None:
            return
        pods = [EndpointRef("pod", object_namespace(m.object), object_name(m.object)) for m in manifests]
        if end not in pods:
            known = [str(pod) for pod in pods]
            message = f"no manifest has this pod{suggestion(str(end), known)}"
            yield document.problem(path, message, str(end), names_text(known) or "add the pod to manifests")
        return
    for fabric in built:
        known = [element.name for element in fabric.fabric.of_kind(end.kind)]
        if end.name not in known:
            what = "node" if end.kind == "node" else "external host"
            message = f"the topology has no such {what}{fabric.where}{suggestion(end.name, known)}"
            allowed = names_text(f"{end.kind}/{name}" for name in known)
            yield document.problem(path, message, str(end), allowed or "topology.parameters.ext adds external hosts")


def probe_problems(document: Document, probes: Mapping[int, Probe], names: Names) -> Iterator[Problem]:
    """Fields that do not belong together, and references to paths that are not there."""
    for index, probe in probes.items():
        path: FieldPath = ("probes", index)
        allowed = FIELDS_OF_KIND[probe.kind]
        for field in sorted(probe.model_fields_set - allowed - {"kind", "name"}):
            message = f"has no effect on a probe of kind {probe.kind}"
            yield document.problem(
                (*path, field), message, allowed=f"kind, name, {', '.join(sorted(allowed))}".rstrip(", ")
            )
        if probe.tool == "sockperf":
            for field in sorted(probe.model_fields_set & {"interval_ms", "warmup_s"}):
                yield document.problem((*path, field), "has no effect with the tool sockperf, which is closed loop")
        if probe.takes_paths and not names.paths:
            yield document.problem(path, f"a probe of kind {probe.kind} needs a path, and the file has no paths")
        seen: set[str] = set()
        for number, name in enumerate(probe.paths or ()):
            if names.paths and name not in names.paths:
                message = f"there is no such path{suggestion(name, names.paths)}"
                yield document.problem((*path, "paths", number), message, name, names_text(names.paths))
            elif name in seen:
                yield document.problem((*path, "paths", number), "given twice", name)
            seen.add(name)
        for number, size in enumerate(probe.payload_bytes):
            if size in probe.payload_bytes[:number]:
                yield document.problem((*path, "payload_bytes", number), "given twice", size)
        if probe.kind == "command":
            yield from _command_problems(document, path, probe)


def _command_problems(document: Document, path: FieldPath, probe: Probe) -> Iterator[Problem]:
    for field in ("argv", "metric"):
        if getattr(probe, field) is None:
            yield document.problem((*path, field), "is required for a probe of kind command")
    if (probe.pattern is None) == (probe.json_path is None):
        message = "a probe of kind command needs exactly one of pattern and json_path"
        yield document.problem(path, message, "both" if probe.pattern is not None else "none")
    if probe.metric == "lost":
        yield document.problem((*path, "metric"), "is a name that the testbed uses itself", probe.metric)
    if probe.scale == 0:
        yield document.problem((*path, "scale"), "makes every figure 0", probe.scale)
    for field in ("argv", "server_argv"):
        words: tuple[str, ...] = getattr(probe, field) or ()
        if any("\0" in word for word in words) or words[:1] == ("",):
            yield document.problem((*path, field), "is not a command line", list(words))


def duplicate_problems(document: Document, names: Names) -> Iterator[Problem]:
    """Two probes, builds or modes of one name."""
    for section, what, listed in (
        ("probes", "probes have the label", names.labels),
        ("builds", "builds have the name", names.builds),
        ("modes", "entries are", names.modes),
    ):
        for index, name in enumerate(listed):
            first = listed.index(name)
            if name and first != index:
                hint = "; give one of them a name" if section == "probes" else ""
                message = f"two {what} {name}; the first is {section}[{first}]{hint}"
                yield document.problem((section, index), message)


def reference_problems(
    document: Document,
    probes: Mapping[int, Probe],
    expectations: Mapping[int, Expectation],
    primary: str | None,
    names: Names,
) -> Iterator[Problem]:
    """The primary probe, and expectations, against what the file has."""
    by_label = {probe.label: probe for probe in probes.values()}
    if primary is not None:
        if primary not in names.labels:
            message = f"there is no such probe{suggestion(primary, names.labels)}"
            yield document.problem(("primary",), message, primary, names_text(names.labels))
        elif primary in by_label and not by_label[primary].takes_paths:
            message = "the primary family is a ratio per path, and this probe has no paths"
            yield document.problem(("primary",), message, primary)
    for index, expectation in expectations.items():
        yield from _expectation_problems(document, ("expect", index), expectation, by_label, names)


def _expectation_problems(
    document: Document, path: FieldPath, expectation: Expectation, by_label: Mapping[str, Probe], names: Names
) -> Iterator[Problem]:
    for field, value, known in (
        ("probe", expectation.probe, names.labels),
        ("path", expectation.path, names.paths),
        ("build", expectation.build, names.builds),
        ("mode", expectation.mode, names.modes),
    ):
        if value is not None and value not in known:
            message = f"there is no such {field}{suggestion(value, known)}"
            yield document.problem((*path, field), message, value, names_text(known))
    probe = by_label.get(expectation.probe)
    if probe:
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
    is_ratio = expectation.statistic.startswith("ratio")
    if is_ratio and len(names.modes) < 2:
        yield document.problem((*path, "statistic"), "needs both modes in the experiment", expectation.statistic)
    if is_ratio and expectation.mode is not None:
        message = "a ratio is of both modes; it cannot be of one"
        yield document.problem((*path, "mode"), message, expectation.mode)
    low, high = expectation.at_least, expectation.at_most
    if low is None and high is None:
        yield document.problem(path, "needs at_most or at_least")
    if low is not None and high is not None and low > high:
        yield document.problem((*path, "at_least"), f"is more than at_most {high:g}, so nothing can meet it", low)
