"""The way in: from a file, or a topology on the command line, to a checked experiment or all its problems."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel

from testbed.errors import InputError, Problem
from testbed.spec.check_network import (
    fabrics_of,
    placement_problems,
    range_problems,
    shaping_of,
    topology_problems,
)
from testbed.spec.check_probes import (
    Names,
    duplicate_problems,
    path_problems,
    probe_problems,
    reference_problems,
)
from testbed.spec.checked import CheckedExperiment
from testbed.spec.manifests import Manifest, distinct_objects, read_manifests
from testbed.spec.models import (
    FORMAT,
    Build,
    Expectation,
    Experiment,
    LinkProperties,
    Network,
    Probe,
    Topology,
)
from testbed.spec.models import Path as PathModel
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.overrides import apply_overrides
from testbed.spec.source import Document, FieldPath, printable, read_documents, read_text
from testbed.spec.structure import sound, sound_fields, structure_problems
from topologies import TOPOLOGIES

AnyModel = TypeVar("AnyModel", bound=BaseModel)

# Verdicts need this many rounds (design rule 8).
_CONCLUSIVE_ROUNDS = 8


def load_experiment(path: Path | str, overrides: Sequence[str] = ()) -> CheckedExperiment:
    """Read and check an experiment file with its manifests. ``overrides`` are ``--set`` values, ``key=value``.

    Raises InputError with every problem of all files at once.
    """
    file = Path(path)
    document, text, problems = _read_single(file)
    if document is None:
        raise InputError(problems)
    document, found = apply_overrides(document, overrides)
    problems += found
    if overrides:
        # What is kept with the results must say what was measured; comments are lost on this way only.
        text = f"# {file.name} with {' '.join(map(shlex.quote, overrides))}\n" + yaml.safe_dump(
            document.value, sort_keys=False
        )
    if isinstance(document.value, dict) and not document.value.get("probes"):
        problems.append(document.problem(("probes",), "needs at least one probe"))
    return _checked(document, problems, file, text, tuple(overrides), ())


def load_topology_argument(text: str, manifests: Sequence[Path | str] = ()) -> CheckedExperiment:
    """What to build from ``leaf_spine,leaves=2,spines=2`` or from a YAML file, and manifest files beside it.

    The file is an experiment, of which everything but ``topology`` may be left out. Raises InputError.
    """
    added = tuple(Path(name) for name in manifests)
    if _is_file_name(text):
        file = Path(text)
        document, source, problems = _read_single(file)
        if document is None:
            raise InputError(problems)
        for field, value in (("format", FORMAT), ("name", _name_of(file))):
            if isinstance(document.value, dict) and field not in document.value:
                document = document.with_value((field,), value, document.file)
        return _checked(document, problems, file, source, (), added)
    document = _topology_document(text)
    return _checked(document, [], Path(text.partition(",")[0]), text, (), added)


def _is_file_name(text: str) -> bool:
    name = text.partition(",")[0]
    return "/" in text or text.endswith((".yaml", ".yml")) or (name not in TOPOLOGIES and Path(text).is_file())


def _name_of(file: Path) -> str:
    return re.sub(r"[^a-z0-9_.-]", "-", file.stem.lower()).strip("_.-")[:63].strip("_.-") or "unnamed"


def _topology_document(text: str) -> Document:
    """``leaf_spine,leaves=2`` as the experiment that it stands for."""
    shown = printable(text)
    name, *rest = text.split(",")
    if name not in TOPOLOGIES:
        message = f"there is no such topology, and no such file{suggestion(name, TOPOLOGIES)}"
        allowed = f"{names_text(TOPOLOGIES)}, or a YAML file"
        raise InputError([Problem(shown, 0, "", message, allowed=allowed)])
    parameters: dict[str, int] = {}
    problems = []
    for part in rest:
        key, _, number = part.partition("=")
        if not re.fullmatch(r"-?[0-9]{1,18}", number):
            message = "a parameter is written NAME=NUMBER"
            known = names_text(TOPOLOGIES[name].parameters())
            problems.append(Problem(shown, 0, "", message, printable(part), known))
        elif key in parameters:
            problems.append(Problem(shown, 0, "", "a parameter is given twice", printable(part)))
        else:
            parameters[key] = int(number)
    if problems:
        raise InputError(problems)
    value = {"format": FORMAT, "name": name, "topology": {"name": name, "parameters": parameters}}
    return Document(shown, 0, value, {})


def _read_single(file: Path) -> tuple[Document | None, str, list[Problem]]:
    text = read_text(file)
    if isinstance(text, Problem):
        return None, "", [text]
    documents, problems = read_documents(text, str(file))
    if problems and not documents:
        return None, text, problems
    if not documents:
        return None, text, [Problem(str(file), 0, "", "is empty", allowed="an experiment")]
    if len(documents) > 1:
        message = "one file holds one experiment; this is a second document"
        problems.append(Problem(str(file), documents[1].line, "", message))
    return documents[0], text, problems


def _checked(
    document: Document,
    problems: list[Problem],
    file: Path,
    text: str,
    overrides: tuple[str, ...],
    more_manifests: tuple[Path, ...],
) -> CheckedExperiment:
    """Collect the problems of every kind; what is unsound in one place does not hide what is wrong in another."""
    # A value that could not even be read has no type to complain about.
    unread = {problem.field for problem in problems}
    problems += [problem for problem in structure_problems(document, Experiment) if problem.field not in unread]
    parts = _Parts(document.value if isinstance(document.value, dict) else {})
    names = parts.names()

    manifests, warnings, all_read = _read_all_manifests(document, parts, file, more_manifests, problems)

    found = list(topology_problems(document, parts.topology_fields, parts.links, parts.build_fields))
    problems += found
    built = [] if found or parts.topology is None else fabrics_of(parts.topology, list(parts.builds.values()))
    found = list(range_problems(document, parts.network_fields, [each.fabric for each in built]))
    problems += found
    if parts.network and not found:
        for each in built:
            problems += placement_problems(document, parts.network, each, manifests)

    problems += duplicate_problems(document, names)
    problems += path_problems(document, parts.paths, built, manifests if all_read else None, names.modes)
    problems += probe_problems(document, parts.probes, names)
    problems += reference_problems(document, parts.probes, parts.expectations, parts.primary, names)

    if problems:
        raise InputError(problems)
    experiment = Experiment.model_validate(document.value, by_alias=True, by_name=False)
    if experiment.probes and experiment.rounds < _CONCLUSIVE_ROUNDS:
        message = f"fewer than {_CONCLUSIVE_ROUNDS} rounds: every verdict will be inconclusive"
        warnings.append(str(document.problem(("rounds",), message, experiment.rounds)))
    return CheckedExperiment(
        experiment, file, tuple(manifests), shaping_of(experiment.topology.links), text, overrides, tuple(warnings)
    )


def _read_all_manifests(
    document: Document, parts: _Parts, file: Path, more: tuple[Path, ...], problems: list[Problem]
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


class _Parts:
    """The sound parts of a document that need not be sound as a whole. Lists are kept by index.

    ``..._fields`` hold what is sound of a part that may be unsound elsewhere: enough for a check, not for a build.
    """

    def __init__(self, value: Mapping[str, Any]) -> None:
        topology = value.get("topology")
        self.topology = sound(topology, Topology)
        self.topology_fields = sound_fields(topology, Topology)
        links = topology.get("links") if isinstance(topology, dict) else None
        self.links = _by_key(links, LinkProperties)
        network = value.get("network", {})
        self.network = sound(network, Network)
        self.network_fields = sound_fields(network, Network) or Network()
        builds = _list(value.get("builds", [{}]))
        self.builds = _by_index(builds, Build)
        self.build_fields = {
            index: fields for index, item in enumerate(builds) if (fields := sound_fields(item, Build)) is not None
        }
        self.paths = _by_key(value.get("paths"), PathModel)
        self.probes = _by_index(value.get("probes"), Probe)
        self.expectations = _by_index(value.get("expect"), Expectation)
        primary = value.get("primary")
        self.primary = primary if isinstance(primary, str) else None
        manifests = _list(value.get("manifests"))
        self.manifest_count = len(manifests)
        self.manifests = {index: name for index, name in enumerate(manifests) if isinstance(name, str) and name}
        self._value = value

    def names(self) -> Names:
        """Every name written, sound or not."""
        probes = [probe if isinstance(probe, dict) else {} for probe in _list(self._value.get("probes"))]
        builds = [build if isinstance(build, dict) else {} for build in _list(self._value.get("builds", [{}]))]
        paths = self._value.get("paths")
        return Names(
            paths=tuple(paths) if isinstance(paths, dict) else (),
            labels=tuple(str(probe.get("name") or probe.get("kind") or "") for probe in probes),
            builds=tuple(str(build.get("name", "main")) for build in builds),
            modes=tuple(map(str, _list(self._value.get("modes", ["overlay", "routed"])))),
        )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _by_index(value: Any, model: type[AnyModel]) -> dict[int, AnyModel]:
    parts = ((index, sound(item, model)) for index, item in enumerate(_list(value)))
    return {index: part for index, part in parts if part is not None}


def _by_key(value: Any, model: type[AnyModel]) -> dict[str, AnyModel]:
    parts = ((key, sound(item, model)) for key, item in (value.items() if isinstance(value, dict) else ()))
    return {key: part for key, part in parts if part is not None}
