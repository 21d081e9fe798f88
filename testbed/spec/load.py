"""The way in: from a file, or a topology on the command line, to a checked experiment or all its problems."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from testbed.errors import InputError, Problem
from testbed.spec.check import check
from testbed.spec.checked import CheckedExperiment
from testbed.spec.models import FORMAT
from testbed.spec.nearest import names_text, suggestion
from testbed.spec.overrides import apply_overrides
from testbed.spec.source import Document, printable, read_documents, read_text
from testbed.spec.write import yaml_text
from topologies import TOPOLOGIES


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
        text = _text_with(document, file, overrides)
    if isinstance(document.value, dict) and not document.value.get("probes"):
        problems.append(document.problem(("probes",), "needs at least one probe"))
    return check(document, problems, file, text, tuple(overrides), ())


def load_topology_argument(
    text: str, manifests: Sequence[Path | str] = (), overrides: Sequence[str] = (), *, living: bool = False
) -> CheckedExperiment:
    """What to build from ``leaf_spine,leaves=2,spines=2`` or from a YAML file, and manifest files beside it.

    The file is an experiment, of which everything but ``topology`` may be left out. ``overrides`` are ``--set`` values.
    A ``living`` cluster gets its Services later, and therefore a DNS server from the start where ``network.dns`` is
    ``auto``; and it starts StatefulSets in their order. Raises InputError.
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
        document, found = apply_overrides(document, overrides)
        text = _text_with(document, file, overrides) if overrides else source
        checked = check(_with_dns(document, living), problems + found, file, text, tuple(overrides), added)
    else:
        document, found = apply_overrides(_topology_document(text), overrides)
        file = Path(text.partition(",")[0])
        checked = check(_with_dns(document, living), found, file, text, tuple(overrides), added)
    return replace(checked, living=living)


def _with_dns(document: Document, living: bool) -> Document:
    network = document.value.get("network") or {} if isinstance(document.value, dict) else None
    if not living or not isinstance(network, dict) or network.get("dns", "auto") != "auto":
        return document
    return document.with_value(("network", "dns"), "on", document.file)


def _text_with(document: Document, file: Path, overrides: Sequence[str]) -> str:
    """What is kept with the results must say what was measured; comments are lost on this way only."""
    options = " ".join(map(shlex.quote, overrides))
    return f"# {file.name} with {options}\n{yaml_text(document.value)}"


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
