"""Container images: which program stands for which image, and the command line of a container.

The rules for ``command`` and ``args`` are Kubernetes'
(https://kubernetes.io/docs/tasks/inject-data-application/define-command-argument-container/).
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from testbed.errors import InputError, Problem
from testbed.spec.nearest import suggestion
from testbed.spec.source import Document, parse_value, read_documents, read_text

CATALOGUE_FILE = Path(__file__).with_name("images.yaml")
PROGRAMS = Path(__file__).parents[1] / "network" / "programs"

_LISTS = ("entrypoint", "args", "prefix")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)*")
_REFERENCE = re.compile(r"\$\$|\$\(([A-Za-z_.-][A-Za-z0-9_.-]*)\)")


@dataclass(frozen=True)
class Image:
    """One entry of the catalogue (``images.yaml`` says what the fields mean)."""

    name: str
    about: str
    entrypoint: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    prefix: tuple[str, ...] = ()
    process: bool = True
    package: str = ""
    program: str = ""

    def tagged(self, tag: str) -> Image:
        """The image of this tag."""
        return replace(self, entrypoint=tuple(word.replace("{tag}", tag) for word in self.entrypoint))


class UnknownImage(ValueError):
    """A container has no command, and its image is not in the catalogue."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.known = tuple(catalogue())
        self.hint = suggestion(image_name(image), self.known)
        super().__init__(f"image {image} has no program here{self.hint}, so the container needs a command")


class UnavailableImage(Exception):
    """An image cannot be run on this machine; the text says what to do."""


def catalogue() -> Mapping[str, Image]:
    """All known images by name: those of :func:`use_catalogue`, otherwise the testbed's own."""
    return _in_use[-1] if _in_use else load_catalogue(None)


def use_catalogue(images: Mapping[str, Image]) -> None:
    """From here on these are the images that this process, and the box that it starts, knows."""
    _in_use[:] = [images]


@cache
def load_catalogue(extra: Path | None) -> Mapping[str, Image]:
    """The images of a file of the user's, before the testbed's own, in the order of the files.

    Raises InputError with everything that is wrong in the file.
    """
    own = {name: _image(name, entry) for name, entry in parse_value(CATALOGUE_FILE.read_text()).items()}
    if extra is None:
        return own
    text = read_text(extra)
    if isinstance(text, Problem):
        raise InputError([text])
    documents, problems = read_documents(text, str(extra))
    if len(documents) != 1 and not problems:
        problems.append(Problem(str(extra), 0, "", "must be one YAML document that maps images to programs"))
    for document in documents:
        problems += _catalogue_problems(document)
    if problems:
        raise InputError(problems)
    users = {name: _image(name, entry) for name, entry in documents[0].value.items()}
    return {**users, **{name: image for name, image in own.items() if name not in users}}


_in_use: list[Mapping[str, Image]] = []
_TEXTS = ("about", "package", "program")


def _catalogue_problems(document: Document) -> Iterator[Problem]:
    """What is wrong in a catalogue of the user's."""
    if not isinstance(document.value, dict):
        yield document.problem((), "must map images to programs", document.value)
        return
    known = (*_LISTS, *_TEXTS, "process")
    for name, entry in document.value.items():
        if not _NAME.fullmatch(name):
            yield document.problem((name,), "is not the end of an image's name", name, "no registry, tag or digest")
        if not isinstance(entry, dict):
            yield document.problem((name,), "must be a mapping", entry, ", ".join(known))
            continue
        for field, value in entry.items():
            if field not in known:
                yield document.problem(
                    (name, field), f"unknown field{suggestion(field, known)}", allowed=", ".join(known)
                )
            elif field in _LISTS and not (isinstance(value, list) and all(isinstance(word, str) for word in value)):
                yield document.problem((name, field), "must be a list of words (numbers in quotes)", value)
            elif field in _TEXTS and not isinstance(value, str):
                yield document.problem((name, field), "must be text", value)
            elif field == "process" and not isinstance(value, bool):
                yield document.problem((name, field), "must be true or false", value)
        if not entry.get("entrypoint") and not entry.get("args") and entry.get("process", True):
            yield document.problem((name,), "needs an entrypoint or args, or process: false")


def _image(name: str, entry: Mapping[str, Any]) -> Image:
    places = {"{python}": sys.executable, "{programs}": str(PROGRAMS)}

    def filled(words: list[str]) -> tuple[str, ...]:
        for place, path in places.items():
            words = [word.replace(place, path) for word in words]
        return tuple(words)

    return Image(
        name,
        entry.get("about", ""),
        filled(entry.get("entrypoint", [])),
        filled(entry.get("args", [])),
        filled(entry.get("prefix", [])),
        entry.get("process", True),
        entry.get("package", ""),
        entry.get("program", ""),
    )


def find_image(reference: str) -> Image | None:
    """The catalogue's entry for an image: the one with the longest name that the image's ends with."""
    path = reference.partition("@")[0]
    head, slash, last = path.rpartition("/")
    words = [*head.split("/"), last.partition(":")[0]] if slash else [last.partition(":")[0]]
    known = catalogue()
    for start in range(len(words)):
        if (image := known.get("/".join(words[start:]))) is not None:
            return image
    return None


def image_name(reference: str) -> str:
    """An image's last name: ``registry.k8s.io:443/pause:3.9@sha256:...`` is ``pause``."""
    return reference.partition("@")[0].rpartition("/")[2].partition(":")[0]


def image_tag(reference: str) -> str:
    """An image's tag: ``latest`` where it has none."""
    return reference.partition("@")[0].rpartition("/")[2].partition(":")[2] or "latest"


def container_argv(container: Mapping[str, Any], variables: Mapping[str, str] | None = None) -> list[str] | None:
    """The command line of a container of a v1 Pod; None for an image that runs no process.

    ``variables`` are what it may refer to by ``$(NAME)``: those with a plain value, unless all are given. Raises
    UnknownImage when neither the manifest nor the catalogue says what to run.
    """
    image = find_image(str(container.get("image") or ""))
    command = [str(word) for word in container.get("command") or ()]
    args = [str(word) for word in container.get("args") or ()]
    if image and not image.process and not (command or args or container.get("stdin")):
        return None
    if image:
        image = image.tagged(image_tag(str(container.get("image") or "")))
    if command:
        prefix = image.prefix if image and "/" not in command[0] else ()
        words = [*prefix, *command, *args]
    elif image and container.get("stdin") and not image.process and not args:
        words = [*image.prefix, "sh"]  # what waits for commands gets them
    elif image:
        prefix = image.prefix if args and not image.entrypoint and "/" not in args[0] else ()
        words = [*image.entrypoint, *prefix, *(args or image.args)]
    else:
        raise UnknownImage(str(container.get("image") or ""))
    environment = container_environment(container) if variables is None else variables
    return [expanded(word, environment) for word in words]


def container_program(container: Mapping[str, Any], variables: Mapping[str, str]) -> list[str]:
    """The command line of a container, empty for one that only waits.

    Raises UnavailableImage when the catalogue has no such image, or the machine not its program.
    """
    try:
        argv = container_argv(container, variables)
    except UnknownImage as unknown:
        raise UnavailableImage(
            f"{unknown}: this testbed runs programs of the machine, not images; it knows {', '.join(unknown.known)}. "
            "Give the container a command, or add the image to a catalogue of your own (docs/pods.md)"
        ) from None
    if argv is None:
        return []
    image = find_image(str(container.get("image") or ""))
    if image and image.package and not container.get("command"):
        program = image.program or argv[0]
        if shutil.which(program) is None:
            raise UnavailableImage(
                f"the program {program} of the image {image.name} is not installed: apt-get install {image.package}"
            )
    return argv


def container_environment(container: Mapping[str, Any]) -> dict[str, str]:
    """The variables of a container's ``env`` (those with a plain value), with references to earlier ones filled in."""
    environment: dict[str, str] = {}
    for variable in container.get("env") or ():
        if "valueFrom" not in variable:
            environment[variable["name"]] = expanded(str(variable.get("value") or ""), environment)
    return environment


def expanded(text: str, environment: Mapping[str, str]) -> str:
    """``$(NAME)`` by its value, ``$$`` by ``$``; a name that is not set stays as it is written."""

    def value(match: re.Match[str]) -> str:
        if match.group(0) == "$$":
            return "$"
        return environment.get(match.group(1), match.group(0))

    return _REFERENCE.sub(value, text)
