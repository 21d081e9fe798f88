"""The check of a whole experiment: every problem of every kind at once, or the experiment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from testbed.cluster.objects import JsonObject
from testbed.errors import InputError, Problem
from testbed.spec.check_comparison import compared_of, comparison_problems, expectation_problems
from testbed.spec.check_events import event_problems
from testbed.spec.check_network import BuiltFabric, fabrics_of, range_problems, shaping_of, topology_problems
from testbed.spec.check_paths import path_problems, probe_path_problems, surroundings
from testbed.spec.check_placement import dns_problems, place, scale_problems
from testbed.spec.check_probes import duplicate_problems, names_of, probe_problems, program_problems
from testbed.spec.check_services import allocation_problems, service_problems, service_warnings
from testbed.spec.checked import CheckedExperiment
from testbed.spec.manifests import Manifest, distinct_objects, read_manifests, unknown_images
from testbed.spec.models import Experiment
from testbed.spec.parts import Parts
from testbed.spec.source import Document, FieldPath
from testbed.spec.structure import structure_problems
from testbed.spec.warnings import experiment_warnings


def check(
    document: Document,
    problems: list[Problem],
    file: Path,
    text: str,
    overrides: tuple[str, ...],
    more_manifests: tuple[Path, ...],
) -> CheckedExperiment:
    """Collect the problems of every kind; what is unsound in one place does not hide what is wrong in another.

    ``problems`` are those already found, ``more_manifests`` files beside those that the experiment names. Raises
    InputError.
    """
    # A value that could not even be read has no type to complain about.
    unread = {problem.field for problem in problems}
    problems += [problem for problem in structure_problems(document, Experiment) if problem.field not in unread]
    value = document.value if isinstance(document.value, dict) else {}
    parts, names = Parts(value), names_of(value)

    manifests, warnings, all_read = _read_all_manifests(document, parts, file, more_manifests, problems)
    scales = [event.scale for probe in parts.probes.values() for event in probe.events if event.scale is not None]
    if all_read:
        problems += service_problems(manifests, names.proxies, scales)
        problems += program_problems(document, parts.probes, parts.builds, manifests)
        warnings += service_warnings(manifests)
    # Who keeps a cluster to look at may bring the image later; a measurement would only measure its absence.
    unknown = [problem for manifest in manifests for problem in unknown_images(manifest)]
    if value.get("probes"):
        problems += unknown
    else:
        warnings += map(str, unknown)

    built, objects = _clusters(document, parts, manifests, problems)
    problems += duplicate_problems(document, names)
    around = surroundings(built, objects, manifests, all_read, names.modes)
    problems += path_problems(document, parts.paths, around)
    problems += probe_problems(document, parts.probes, names)
    problems += probe_path_problems(document, parts.probes, parts.paths, around)
    problems += event_problems(document, parts.probes, parts.paths, manifests if all_read else None, around)
    compared = compared_of(parts, names)
    problems += comparison_problems(document, compared, parts.paths, parts.probes, parts.primary)
    problems += expectation_problems(document, parts.expectations, parts.probes, compared)

    if problems:
        raise InputError(problems)
    experiment = Experiment.model_validate(document.value, by_alias=True, by_name=False)
    warnings += experiment_warnings(document, experiment, manifests)
    return CheckedExperiment(
        experiment, file, tuple(manifests), shaping_of(experiment.topology.links), text, overrides, tuple(warnings)
    )


def _clusters(
    document: Document, parts: Parts, manifests: Sequence[Manifest], problems: list[Problem]
) -> tuple[list[BuiltFabric], Sequence[JsonObject] | None]:
    """The fabrics, and the objects of one of the builds; None when they could not all be made. Problems are added."""
    found = list(topology_problems(document, parts.topology_fields, parts.links, parts.build_fields))
    problems += found
    built = [] if found or parts.topology is None else fabrics_of(parts.topology, parts.builds)
    found = list(range_problems(document, parts.network_fields, [each.fabric for each in built]))
    problems += found
    if parts.network is None or found:
        return built, None
    found = list(dns_problems(document, parts.network, manifests))
    refused = allocation_problems(manifests, parts.network.config("overlay"))
    problems += found + [problem for each in refused.values() for problem in each]
    if found:
        return built, None
    placeable = [manifest for position, manifest in enumerate(manifests) if position not in refused]
    objects: Sequence[JsonObject] | None = None if refused or not built else ()
    for each in built:
        made, wrong = place(document, parts.network, each, placeable)
        problems += wrong or scale_problems(document, parts.network, each, placeable, parts.probes)
        objects = None if wrong or objects is None else made
    return built, objects


def _read_all_manifests(
    document: Document, parts: Parts, file: Path, more: tuple[Path, ...], problems: list[Problem]
) -> tuple[list[Manifest], list[str], bool]:
    """The sound objects of all manifest files, warnings, and whether every object was sound."""
    manifests: list[Manifest] = []
    warnings: list[str] = []
    before = len(problems)
    seen: set[Path] = set()
    named: list[tuple[FieldPath, Path]] = [
        (("manifests", index), file.parent / name) for index, name in parts.manifests.items()
    ]
    for field, manifest_file in [*named, *(((), name) for name in more)]:
        if manifest_file in seen:
            problems.append(document.problem(field, "the same file is given twice", str(manifest_file)))
            continue
        seen.add(manifest_file)
        objects, found, ignored = read_manifests(manifest_file)
        if field and any(problem.file == str(manifest_file) and not problem.line for problem in found):
            # The file as a whole is at fault: say where it is named.
            found = [document.problem(field, problem.message, str(manifest_file)) for problem in found]
        manifests += objects
        problems += found
        warnings += ignored
    all_read = len(problems) == before and len(parts.manifests) == parts.manifest_count
    distinct, found = distinct_objects(manifests)
    problems += found
    return distinct, warnings, all_read
