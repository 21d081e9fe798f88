"""Checks of probes: fields that belong together, and paths that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from testbed.cluster.services import selector_of
from testbed.errors import Problem
from testbed.spec.manifests import Manifest
from testbed.spec.models import FIELDS_OF_KIND, Build, Probe, ProbeKind
from testbed.spec.nearest import names_text, nearest, suggestion
from testbed.spec.source import Document, FieldPath


@dataclass(frozen=True)
class Names:
    """Every name that can be referred to, those of unsound parts included: what is wrong there is said there.

    ``meant`` are labels that probes would have whose kind is misspelt; ``all_labels`` is false when there is one of
    which nothing is known.
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    builds: tuple[str, ...]
    modes: tuple[str, ...]
    proxies: tuple[str, ...]
    meant: tuple[str, ...] = ()
    all_labels: bool = True

    def has_label(self, label: str) -> bool:
        """Whether a probe may have the label."""
        return label in self.labels or label in self.meant or not self.all_labels


def names_of(value: Mapping[str, Any]) -> Names:
    """The names in an experiment file, whatever its state."""
    probes = [probe if isinstance(probe, dict) else {} for probe in _list(value.get("probes"))]
    builds = [build if isinstance(build, dict) else {} for build in _list(value.get("builds", [{}]))]
    paths = value.get("paths")
    known = get_args(ProbeKind)
    unnamed = [str(probe.get("kind") or "") for probe in probes if not probe.get("name")]
    meant = {kind: nearest(kind, known) for kind in unnamed if kind not in known}
    return Names(
        paths=tuple(paths) if isinstance(paths, dict) else (),
        labels=tuple(str(probe.get("name") or probe.get("kind") or "") for probe in probes),
        builds=tuple(str(build.get("name", "main")) for build in builds),
        modes=tuple(map(str, _list(value.get("modes", ["overlay", "routed"])))),
        proxies=tuple(map(str, _list(value.get("proxies", ["openflow"])))),
        meant=tuple(kind for kind in meant.values() if kind is not None),
        all_labels=None not in meant.values(),
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


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


def program_problems(
    document: Document, probes: Mapping[int, Probe], builds: Mapping[int, Build], manifests: Sequence[Manifest]
) -> Iterator[Problem]:
    """A probe of kind program in a build that has no EndpointSlice which the cluster leaves to others."""
    owners = {manifest.owner for manifest in manifests if manifest.object.get("endpoints")}
    written = any(
        manifest.kind == "Service"
        and not selector_of(manifest.object)
        and (manifest.namespace, manifest.name) in owners
        for manifest in manifests
    )
    for index, probe in probes.items():
        for build in builds.values() if probe.kind == "program" and not written else ():
            if build.generate is None or build.generate.endpoints == 0:
                message = f"there is no endpoint to change in build {build.name}"
                allowed = "generate in the build, or a Service without selector and an EndpointSlice in the manifests"
                yield document.problem(("probes", index), message, allowed=allowed)


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
        ("proxies", "entries are", names.proxies),
    ):
        for index, name in enumerate(listed):
            first = listed.index(name)
            if name and first != index:
                hint = "; give one of them a name" if section == "probes" else ""
                message = f"two {what} {name}; the first is {section}[{first}]{hint}"
                yield document.problem((section, index), message)
