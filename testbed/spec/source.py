"""YAML text to plain values that remember the line of every field.

The events of the YAML parser are composed here and not by PyYAML's own composer, because a file from anywhere must
be refused, not followed, when it is nested without end, refers to itself, or multiplies by aliases ("billion
laughs"); and because PyYAML forgets lines and lets the second of two equal keys win. Scalars are read as Kubernetes
reads them (YAML 1.1 booleans; dates stay text; base 60 is not a number).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from testbed.errors import Problem

FieldPath = tuple[str | int, ...]

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 64
MAX_VALUES = 200_000  # after aliases are followed; about 10,000 pods

_NULL = re.compile(r"(~|null|Null|NULL|)\Z")
_TRUE = re.compile(r"(true|True|TRUE|yes|Yes|YES|on|On|ON)\Z")
_FALSE = re.compile(r"(false|False|FALSE|no|No|NO|off|Off|OFF)\Z")
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)\Z")
_BASED_INT = re.compile(r"([-+]?)0(x[0-9a-fA-F][0-9a-fA-F_]*|b[01][01_]*|o?[0-7][0-7_]*)\Z")
_FLOAT = re.compile(r"[-+]?(([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)\Z")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z")
_NAN = re.compile(r"\.(nan|NaN|NAN)\Z")
_TAG = "tag:yaml.org,2002:"


def field_text(path: FieldPath) -> str:
    """A field's path as a person would write it: ``probes[0].kind``."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif re.fullmatch(r"[\w-]+", step):
            text += f".{step}" if text else step
        else:
            text += f"[{printable(json.dumps(step, ensure_ascii=False))}]"
    return text


def printable(text: str) -> str:
    """Without what could end a line or steer a terminal: other people's files are quoted in messages."""
    return "".join(character if character.isprintable() else "?" for character in text)


def value_text(value: Any) -> str:
    """A value on one line, shortened, for an error message."""
    text = printable(json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 100 else text[:97] + "..."


@dataclass(frozen=True)
class Document:
    """One YAML document: its value, and where each field stands.

    ``lines`` maps a field's path to its line (of the key in a mapping, of the item in a list). ``overridden`` maps
    the path of a value given on the command line to the option as it was written.
    """

    file: str
    line: int
    value: Any
    lines: Mapping[FieldPath, int] = field(repr=False)
    overridden: Mapping[FieldPath, str] = field(default_factory=dict)

    def problem(self, path: FieldPath, message: str, value: Any = None, allowed: str = "") -> Problem:
        """A problem of the field at ``path``. A field that is not written down is reported where it should stand."""
        file, line = self.where(path)
        got = "" if value is None else value_text(value)
        return Problem(file, line, field_text(path), printable(message), got, printable(allowed))

    def where(self, path: FieldPath) -> tuple[str, int]:
        for length in range(len(path), -1, -1):
            known = path[:length]
            if known in self.overridden:
                return self.overridden[known], 0
            if known in self.lines:
                return self.file, self.lines[known]
        return self.file, self.line

    def with_value(self, path: FieldPath, value: Any, origin: str) -> Document:
        """A copy in which the field at ``path`` has another value, given by the option ``origin``."""
        return replace(self, value=_replaced(self.value, path, value), overridden={**self.overridden, path: origin})


def _replaced(whole: Any, path: FieldPath, value: Any) -> Any:
    if not path:
        return value
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return [_replaced(item, rest, value) if index == step else item for index, item in enumerate(whole)]
    return {**(whole or {}), step: _replaced((whole or {}).get(step), rest, value)}


def read_text(path: Path) -> str | Problem:
    """The text of a file, or why it cannot be had."""
    file = str(path)
    try:
        if not path.exists():
            return Problem(file, 0, "", "no such file")
        if not path.is_file():
            return Problem(file, 0, "", "is not a file")
        if path.stat().st_size > MAX_BYTES:
            return Problem(file, 0, "", "is too large", allowed=f"at most {MAX_BYTES // 1024 // 1024} MiB")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Problem(file, 0, "", f"cannot be read: {reason}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Problem(file, line, "", "is not UTF-8 text", f"byte 0x{data[error.start]:02x}")


def read_documents(text: str, file: str) -> tuple[list[Document], list[Problem]]:
    """Every YAML document of a text that can be read, and every problem met on the way.

    A syntax error ends the reading: documents before it are returned. Empty documents are left out.
    """
    documents: list[Document] = []
    problems: list[Problem] = []
    try:
        for node in _compose(text, file):
            reader = _Reader(file)
            value = reader.read(node, (), 1)
            problems += reader.problems
            if value is not None or reader.problems:
                documents.append(Document(file, node.line, value, reader.lines))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = " ".join(filter(None, [error.problem, error.context])) or "cannot be read"
        problems.append(Problem(file, int(mark.line) + 1 if mark else 0, "", f"is not YAML: {message}"))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        character = f"character U+{error.character:04X}" if isinstance(error.character, int) else ""
        problems.append(Problem(file, line, "", "is not YAML: a character that YAML does not allow", character))
    except UnicodeEncodeError:
        # A command line that is not UTF-8 reaches Python as lone surrogates.
        problems.append(Problem(file, 0, "", "is not UTF-8 text"))
    except _Refused as refusal:
        problems.append(refusal.problem)
    return documents, problems


def parse_value(text: str) -> Any:
    """One value as ``--set`` takes it. Raises ValueError with the reason."""
    documents, problems = read_documents(text, "")
    if problems:
        raise ValueError(problems[0].message)
    if len(documents) > 1:
        raise ValueError("holds several YAML documents")
    return documents[0].value if documents else None


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        self.problem = problem


@dataclass
class _Node:
    """``content`` is the text of a scalar, the items of a sequence, or the keys and values of a mapping in turn."""

    content: str | list[_Node]
    line: int
    tag: str | None
    mapping: bool = False
    plain: bool = False
    closed: bool = True


_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _compose(text: str, file: str) -> Iterator[_Node]:
    """The root node of each document. Not recursive, so that depth is an error and not an overflow."""
    anchors: dict[str, _Node] = {}
    open_nodes: list[_Node] = []
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.DocumentStartEvent):
            anchors, open_nodes = {}, []
            continue
        if isinstance(event, yaml.CollectionEndEvent):
            node = open_nodes.pop()
            node.closed = True
            if not open_nodes:
                yield node
            continue
        if not isinstance(event, (yaml.AliasEvent, yaml.ScalarEvent, yaml.CollectionStartEvent)):
            continue
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise _Refused(Problem(file, line, "", "alias of an anchor that is not there", f"*{event.anchor}"))
            node = anchors[event.anchor]
            if not node.closed:
                raise _Refused(Problem(file, line, "", "a value that contains itself", f"*{event.anchor}"))
        elif isinstance(event, yaml.ScalarEvent):
            node = _Node(event.value, line, event.tag, plain=event.implicit[0])
        else:
            node = _Node([], line, event.tag, mapping=isinstance(event, yaml.MappingStartEvent), closed=False)
        anchor = getattr(event, "anchor", None)
        if anchor and not isinstance(event, yaml.AliasEvent):
            anchors[anchor] = node
        if open_nodes:
            content = open_nodes[-1].content
            assert isinstance(content, list)
            content.append(node)
        elif isinstance(event, yaml.ScalarEvent):
            yield node
        if not node.closed:
            open_nodes.append(node)
            if len(open_nodes) > MAX_DEPTH:
                raise _Refused(Problem(file, line, "", "is nested too deeply", allowed=f"at most {MAX_DEPTH} levels"))


class _Reader:
    """Turns the nodes of one document into values; collects lines and problems."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[FieldPath, int] = {}
        self.problems: list[Problem] = []
        self._values = 0

    def read(self, node: _Node, path: FieldPath, depth: int) -> Any:
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH + 1:
            raise _Refused(
                Problem(
                    self.file,
                    node.line,
                    "",
                    "is too large when its aliases are followed",
                    allowed=f"at most {MAX_VALUES:,} values, {MAX_DEPTH} levels deep",
                )
            )
        self.lines.setdefault(path, node.line)
        if isinstance(node.content, str):
            try:
                return scalar(node.content, node.plain, node.tag)
            except ValueError as error:
                self._problem(node, path, str(error), node.content)
                return None
        expected = "map" if node.mapping else "seq"
        if node.tag not in (None, "!", _TAG + expected):
            self._problem(node, path, f"a YAML tag that is not allowed: {str(node.tag).replace(_TAG, '!!')}")
        if node.mapping:
            return self._mapping(node, path, depth)
        items = []
        for index, item in enumerate(node.content):
            self.lines[(*path, index)] = item.line
            items.append(self.read(item, (*path, index), depth + 1))
        return items

    def _mapping(self, node: _Node, path: FieldPath, depth: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[_Node] = []
        assert isinstance(node.content, list)
        for key_node, value_node in zip(node.content[::2], node.content[1::2], strict=True):
            if key_node.content == "<<" and key_node.plain and key_node.tag is None:
                merged.append(value_node)
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in result:
                first = self.lines[(*path, key)]
                self._problem(key_node, (*path, key), f"given twice; the first is on line {first}")
                continue
            self.lines[(*path, key)] = key_node.line
            result[key] = self.read(value_node, (*path, key), depth + 1)
        # YAML 1.1 merge keys (https://yaml.org/type/merge.html): what is written out wins over what is merged.
        for source in merged:
            several = isinstance(source.content, list) and not source.mapping
            for mapping in source.content if several else [source]:
                if not isinstance(mapping, _Node) or not mapping.mapping:
                    self._problem(source, path, "<< takes a mapping or a list of mappings")
                    continue
                values = _Reader(self.file)
                values._values = self._values
                for key, value in values.read(mapping, path, depth + 1).items():
                    if key not in result:
                        result[key] = value
                        here = (*path, key)
                        self.lines.update({p: n for p, n in values.lines.items() if p[: len(here)] == here})
                self._values = values._values
                self.problems += values.problems
        return result

    def _key(self, node: _Node, path: FieldPath) -> str | None:
        if isinstance(node.content, str):
            try:
                key = scalar(node.content, node.plain, node.tag)
            except ValueError:
                key = None
            # "on", "off", "yes", "no" and the letters y and n are names when they stand as a key.
            if isinstance(key, bool):
                return node.content
            if isinstance(key, str):
                return key
        written = node.content if isinstance(node.content, str) else "a list or mapping"
        self._problem(node, path, "a key must be text; put it in quotes", written)
        return None

    def _problem(self, node: _Node, path: FieldPath, message: str, value: str | None = None) -> None:
        got = "" if value is None else value_text(value)
        self.problems.append(Problem(self.file, node.line, field_text(path), printable(message), got))


def scalar(text: str, plain: bool, tag: str | None) -> str | int | float | bool | None:
    """The value of a YAML scalar. Raises ValueError for a tag that is not allowed or a number that is none."""
    if tag is not None and tag != "!":
        if tag == _TAG + "str":
            return text
        value = scalar(text, True, None) if tag in _TYPE_OF_TAG else None
        if tag == _TAG + "float" and type(value) is int:
            return float(value)
        if tag not in _TYPE_OF_TAG:
            raise ValueError("a YAML tag that is not allowed: " + tag.replace(_TAG, "!!"))
        if type(value) is not _TYPE_OF_TAG[tag]:
            raise ValueError(f"is not of its type {tag.replace(_TAG, '!!')}")
        return value
    if not plain or tag == "!":
        return text
    return _plain_scalar(text)


_TYPE_OF_TAG: dict[str, type] = {
    _TAG + "int": int,
    _TAG + "float": float,
    _TAG + "bool": bool,
    _TAG + "null": type(None),
}


def _plain_scalar(text: str) -> str | int | float | bool | None:
    if _NULL.match(text):
        return None
    if _TRUE.match(text):
        return True
    if _FALSE.match(text):
        return False
    digits = text.replace("_", "")
    if _INT.match(text) or _BASED_INT.match(text):
        if len(text) > 100:
            raise ValueError("a number with too many digits")
        based = _BASED_INT.match(text)
        if based is None:
            return int(digits)
        body = based.group(2).replace("_", "")
        base = {"x": 16, "b": 2, "o": 8}.get(body[0])
        return int(based.group(1) + (body[1:] if base else body), base or 8)
    if _FLOAT.match(text):
        return float(digits)
    infinity = _INFINITY.match(text)
    if infinity:
        return float(infinity.group(1) + "inf")
    if _NAN.match(text):
        return float("nan")
    return text
