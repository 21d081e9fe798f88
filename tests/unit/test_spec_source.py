"""YAML with lines: what the reader makes of values, keys, aliases and other people's files."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.errors import Problem
from testbed.spec.source import Document, field_text, parse_value, read_documents, read_text
from testbed.spec.write import yaml_text


def read(text: str) -> Document:
    documents, problems = read_documents(text, "file.yaml")
    assert not problems
    assert len(documents) == 1
    return documents[0]


def problems_of(text: str) -> list[str]:
    return [problem.message for problem in read_documents(text, "file.yaml")[1]]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("yes", True),
        ("Off", False),
        ("12", 12),
        ("-1_000", -1000),
        ("0x1f", 31),
        ("0xb0", 176),
        ("0b101", 5),
        ("0o17", 15),
        ("017", 15),
        ("089", "089"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("1:30", "1:30"),
        ("2026-11-20", "2026-11-20"),
        ("10.244.0.0/16", "10.244.0.0/16"),
        ("1.2.3", "1.2.3"),
        ("'12'", "12"),
        ('"yes"', "yes"),
        ("! 12", "12"),
        ("!!str 12", "12"),
        ("!!float 12", 12.0),
        ("!!int '12'", 12),
        ("[a, {b: [1, 2]}]", ["a", {"b": [1, 2]}]),
        ("on: 1", {"on": 1}),
        ("=", "="),
    ],
)
def test_values_are_those_kubernetes_reads(text: str, value: Any) -> None:
    result = parse_value(text)
    assert result == value
    assert type(result) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_value(".nan"))


def test_every_field_has_the_line_of_its_key_or_item() -> None:
    document = read("a: 1\nb:\n  - x\n  - c: |\n      text\n    d: 2\n")
    assert {field_text(path): line for path, line in document.lines.items()} == {
        "": 1,
        "a": 1,
        "b": 2,
        "b[0]": 3,
        "b[1]": 4,
        "b[1].c": 4,
        "b[1].d": 6,
    }
    assert document.where(("b", 1, "not there")) == ("file.yaml", 4)


def test_lines_count_over_documents() -> None:
    documents, problems = read_documents("a: 1\n---\n\nb: 2\n---\n# nothing\n---\nc: 3\n", "file.yaml")
    assert not problems
    assert [(document.line, document.value) for document in documents] == [(1, {"a": 1}), (4, {"b": 2}), (8, {"c": 3})]


def test_aliases_are_followed() -> None:
    document = read("a: &x {k: [1]}\nb: *x\nc: [*x, *x]\n")
    assert document.value == {"a": {"k": [1]}, "b": {"k": [1]}, "c": [{"k": [1]}, {"k": [1]}]}


def test_what_is_written_wins_over_what_is_merged() -> None:
    document = read("a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {y: 3, <<: [*a, *b]}\n")
    assert document.value["c"] == {"y": 3, "x": 1, "z": 2}
    assert document.where(("c", "z")) == ("file.yaml", 2)


def test_an_alias_bomb_is_refused_quickly() -> None:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]\n" for n in range(1, 30))
    begin = time.monotonic()
    assert problems_of(f"l0: &l0 x\n{levels}") == ["is too large when its aliases are followed"]
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: {c: *a}}", "&a [[*a]]"])
def test_a_value_that_contains_itself_is_refused(text: str) -> None:
    assert problems_of(text) == ["a value that contains itself"]


@pytest.mark.parametrize("opening", ["[", "{a: ", "- "])
def test_endless_nesting_is_refused(opening: str) -> None:
    assert problems_of(opening * 100_000)[0].startswith(("is nested too deeply", "is not YAML"))


def test_the_documents_before_a_syntax_error_are_kept() -> None:
    documents, problems = read_documents("a: 1\n---\nb: [\n", "file.yaml")
    assert [document.value for document in documents] == [{"a": 1}]
    assert len(problems) == 1


def test_a_field_path_is_written_as_a_person_writes_it() -> None:
    assert field_text(("probes", 0, "kind")) == "probes[0].kind"
    assert field_text(("metadata", "labels", "app.kubernetes.io/name")) == 'metadata.labels["app.kubernetes.io/name"]'


def test_unreadable_files_are_problems(tmp_path: Path) -> None:
    large = tmp_path / "large.yaml"
    with large.open("wb") as stream:
        stream.truncate(17 * 1024 * 1024)
    messages = []
    for path in (large, tmp_path, tmp_path / "none", tmp_path / ("x" * 300), Path("a\0b")):
        result = read_text(path)
        assert isinstance(result, Problem)
        messages.append(result.message.partition(":")[0])
    assert messages[:3] == ["is too large", "is not a file", "no such file"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_whatever_is_written_is_read_back(value: Any) -> None:
    text = yaml_text(value)
    assert parse_value(text) == value


@given(st.text() | st.text(alphabet="ab:-[]{}&*<>|\n \t'\"!?#%@`0", max_size=60))
def test_any_text_gives_documents_or_problems(text: str) -> None:
    documents, problems = read_documents(text, "file.yaml")
    for problem in problems:
        assert problem.line >= 0
    for document in documents:
        assert () in document.lines
