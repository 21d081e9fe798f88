"""A stored results folder as values and data frames; nothing but the folder is needed."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from testbed.analysis.contrasts import Plan, complete_former_summary, plan_of
from testbed.errors import InputError, Problem
from testbed.stored import FORMAT, REQUEST_COLUMNS, SAMPLE_COLUMNS

# Runs from before there were proxies: OpenFlow was the only one.
_FORMER_COLUMNS = tuple(column for column in SAMPLE_COLUMNS if column != "proxy")
_TEXT_COLUMNS = ("build", "arm", "mode", "proxy", "path", "probe", "metric")
_EVENT_COLUMNS = (
    *("build", "round", "attempt", "arm", "path", "probe"),
    *("what", "written_ms", "confirmed_ms", "removed", "added", "action"),
)
_ONCE_THE_ONLY_ACTION = "scale"
_ROUND_COLUMNS = ("build", "round", "attempt", "order", "started", "duration_s", "valid", "causes", "other_load_pct")
_EVIDENCE_COLUMNS = (
    "build",
    "round",
    "attempt",
    "arm",
    "path",
    "ok",
    "packets",
    "outer",
    "inner",
    "vni",
    "via",
    "detail",
)
_LINE_TYPES = {"round": "int64", "attempt": "int64", "duration_s": "float64", "other_load_pct": "float64"}
_CHUNK_BYTES = 1 << 18

Document = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """One run as it was stored.

    ``run`` is run.json (what was planned and how it ended), ``environment`` environment.json; both are plain dicts.
    The frames are read when they are first used.
    """

    directory: Path
    run: Document
    environment: Document

    @property
    def experiment(self) -> Document:
        """The experiment as it was run, after every override."""
        found = self.run.get("experiment", {})
        return found if isinstance(found, dict) else {"name": str(found)}

    @property
    def name(self) -> str:
        """The experiment's name."""
        return str(self.experiment.get("name", self.directory.name))

    @property
    def smoke(self) -> bool:
        """Whether the run was cut short on purpose to see that everything works; its numbers are not to be judged."""
        return bool(self.run.get("smoke", False))

    @cached_property
    def samples(self) -> pd.DataFrame:
        """Every raw sample, a row each, with SAMPLE_COLUMNS as columns; the metric names the unit of ``value``."""
        return _read_samples(self.directory / "samples.csv.gz")

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """One row per attempt at a round: order of the arms, whether it is valid, and the causes if it is not."""
        return _read_lines(self.directory / "rounds.jsonl", _ROUND_COLUMNS)

    @cached_property
    def evidence(self) -> pd.DataFrame:
        """One row per (attempt, arm, path): the decoded packet from the fabric and the way it took."""
        return _read_lines(self.directory / "evidence.jsonl", _EVIDENCE_COLUMNS)

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row per HTTP request: when it was due and over (ms from the begin of measuring), status, pod, problem."""
        file = self.directory / "requests.csv.gz"
        if not file.is_file():
            return pd.DataFrame(columns=list(REQUEST_COLUMNS))
        return _read_table(file, _decompress(file), REQUEST_COLUMNS, _REQUEST_TYPES)

    @cached_property
    def events(self) -> pd.DataFrame:
        """One row per event of a cell: what was done when, and which pods the Service lost and won by it."""
        events = _read_lines(self.directory / "events.jsonl", _EVENT_COLUMNS)
        return events.assign(action=events["action"].fillna(_ONCE_THE_ONLY_ACTION))

    @cached_property
    def plan(self) -> Plan:
        """The arms, and what is compared with what."""
        return plan_of(self.run)

    @cached_property
    def document(self) -> Document:
        """summary.json. Raises :class:`InputError` when the run has not been summarised."""
        hint = "`testbed report DIR` makes it from the samples"
        return complete_former_summary(_read_json(self.directory / "summary.json", hint=hint))

    @property
    def summary(self) -> pd.DataFrame:
        """One row per comparison of summary.json: ratio with interval, p-values, noise floor, verdict."""
        return pd.json_normalize(self.document["comparisons"], sep="_")

    @property
    def arms(self) -> pd.DataFrame:
        """One row per arm and cell kind of summary.json: samples, median with interval, p99, loss."""
        return pd.DataFrame(self.document["arms"])


def load(directory: str | Path) -> Results:
    """Open a results folder (or the ``latest`` link to one).

    Raises :class:`InputError` when it is not a results folder or was written in another format version. Data of a
    run that was killed is accepted: a last compressed block or line that was cut off is dropped as far as it is
    unreadable.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise _error(folder, "no such results folder")
    if not (folder / "run.json").is_file():
        raise _error(folder, "not a results folder: it has no run.json", allowed="a folder made by `testbed run`")
    run = _read_json(folder / "run.json")
    environment_file = folder / "environment.json"
    return Results(folder, run, _read_json(environment_file) if environment_file.is_file() else {})


def _error(file: Path, message: str, **details: str) -> InputError:
    return InputError([Problem(str(file), 0, "", message, **details)])


def _read_json(file: Path, hint: str = "") -> Document:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _error(file, "no such file" + (f"; {hint}" if hint else "")) from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _error(file, f"not JSON: {error}") from None
    if not isinstance(document, dict):
        raise _error(file, "not a JSON object")
    if document.get("format") != FORMAT:
        problem = Problem(str(file), 0, "format", "this version cannot read it", repr(document.get("format")), FORMAT)
        raise InputError([problem])
    return document


def _read_lines(file: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """JSON lines as a frame with at least ``columns``; the file may be missing when the run ended before it began."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    records: list[Mapping[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break  # the run was killed while it wrote this line
            raise InputError([Problem(str(file), number, "", f"not JSON: {error}")]) from None
        if not isinstance(record, dict):
            raise InputError([Problem(str(file), number, "", "not a JSON object")])
        records.append(record)
    if not records:
        return pd.DataFrame({column: pd.Series(dtype=_LINE_TYPES.get(column, object)) for column in columns})
    frame = pd.DataFrame.from_records(records)
    return frame.reindex(columns=[*columns, *(column for column in frame.columns if column not in columns)])


def _read_samples(file: Path) -> pd.DataFrame:
    if not file.is_file():
        raise _error(file, "no such file: the run ended before its first sample")
    text = _decompress(file)
    if text.startswith(",".join(_FORMER_COLUMNS).encode() + b"\n"):
        samples = _read_table(file, text, _FORMER_COLUMNS, _SAMPLE_TYPES)
        samples.insert(_FORMER_COLUMNS.index("mode") + 1, "proxy", pd.Categorical(["openflow"] * len(samples)))
        return samples
    return _read_table(file, text, SAMPLE_COLUMNS, _SAMPLE_TYPES)


_SAMPLE_TYPES = {
    **dict.fromkeys(_TEXT_COLUMNS, "category"),
    "round": "int32",
    "attempt": "int32",
    "position": "int32",
    "payload_bytes": "Int32",
    "value": "float64",
}
_REQUEST_TYPES = {
    **dict.fromkeys(("build", "arm", "path", "probe", "pod", "problem"), "category"),
    **dict.fromkeys(("round", "attempt", "status"), "int32"),
    **dict.fromkeys(("due_ms", "over_ms"), "float64"),
}


def _read_table(file: Path, text: bytes, columns: tuple[str, ...], types: Mapping[str, str]) -> pd.DataFrame:
    """A table with exactly these columns, without a last row that was cut off."""
    text = text[: text.rfind(b"\n") + 1]  # a row that was cut off ends in no line break
    if not text:
        raise _error(file, "the run ended before its first sample")
    header = text[: text.find(b"\n") + 1].decode("utf-8", "replace").strip()
    if header != ",".join(columns):
        raise InputError([Problem(str(file), 1, "", "other columns than expected", header, ",".join(columns))])
    try:
        return pd.read_csv(
            io.BytesIO(text),
            dtype={column: types[column] for column in columns},
            keep_default_na=False,
            na_values={"payload_bytes": [""]},
        )
    except (ValueError, pd.errors.ParserError) as error:
        raise _error(file, f"a row cannot be read: {error}") from None


def _decompress(file: Path) -> bytes:
    """All gzip members of a file, one after the other; a last member that was cut off is decoded as far as it goes."""
    parts: list[bytes] = []
    member = zlib.decompressobj(wbits=31)
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            while chunk:
                try:
                    parts.append(member.decompress(chunk))
                except zlib.error as error:
                    raise _error(file, f"not readable as gzip: {error}") from None
                chunk = member.unused_data
                if member.eof:
                    member = zlib.decompressobj(wbits=31)
    if not member.eof:
        parts.append(member.flush())
    return b"".join(parts)
