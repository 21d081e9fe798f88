"""The results folder while a run writes it. Whatever ends the run, every finished cell is readable afterwards."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from testbed.measure.events.happening import Happening
from testbed.measure.plan import Arm, Attempt, Cell, plan_arms, plan_contrasts, plan_treatments
from testbed.measure.probes.base import Request
from testbed.stored import FORMAT, REQUEST_COLUMNS, SAMPLE_COLUMNS

if TYPE_CHECKING:
    from testbed.spec.checked import CheckedExperiment

# Samples are kept to 3 decimals, nanoseconds of a time in microseconds: level 1 then costs little time between cells.
_GZIP_LEVEL = 1


def new_directory(root: Path, experiment: str) -> Path:
    """Make ``root/<experiment>/<UTC time>`` and let ``latest`` beside it point there. Two runs never share one."""
    parent = root / experiment
    parent.mkdir(parents=True, exist_ok=True)
    stamp = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H-%M-%SZ")
    directory, number = parent / stamp, 1
    while True:
        try:
            directory.mkdir()
            break
        except FileExistsError:
            number += 1
            directory = parent / f"{stamp}-{number}"
    link = parent / f".latest-{directory.name}"
    link.symlink_to(directory.name)
    link.replace(parent / "latest")
    return directory


def utc_now() -> str:
    """The time as it stands in the documents: ISO 8601 (RFC 3339), UTC."""
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Recorder:
    """Writes one results folder. As a context manager it marks the run complete, or partial when something raises."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "evidence").mkdir(parents=True, exist_ok=True)
        self._run: dict[str, Any] = {}
        self._environment: dict[str, Any] = {}

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._run |= {"status": "complete" if kind is None else "partial", "finished": utc_now()}
        if error is not None:
            self._run["ended_by"] = f"{type(error).__name__}: {error}".removesuffix(": ")
        self._document("run.json", self._run)

    def begin(self, checked: CheckedExperiment, *, command: Sequence[str], seed: int, smoke: bool = False) -> None:
        """Write what is going to be run, and copies of everything it was made from."""
        experiment = checked.experiment
        self._run = {
            "status": "running",
            "smoke": smoke,
            "started": utc_now(),
            "finished": None,
            "command": list(command),
            "seed": seed,
            "overrides": list(checked.overrides),
            "samples": {"format": FORMAT, "columns": list(SAMPLE_COLUMNS)},
            "plan": {
                "builds": [build.name for build in experiment.builds],
                "rounds": experiment.rounds,
                "arms": [arm.name for arm in plan_arms(experiment)],
                "treatments": [treatment.document() for treatment in plan_treatments(experiment)],
                "contrasts": [contrast.document() for contrast in plan_contrasts(experiment)],
                "paths": list(experiment.paths),
                "probes": [probe.label for probe in experiment.probes],
            },
            "experiment": experiment.model_dump(mode="json", by_alias=True),
        }
        self._document("run.json", self._run)
        _write(self.directory / "experiment.yaml", checked.text.encode())
        for file in dict.fromkeys(manifest.file for manifest in checked.manifests):
            self._copy_manifest(Path(file), checked.file.parent)
        self._append("samples.csv.gz", gzip.compress((",".join(SAMPLE_COLUMNS) + "\n").encode(), _GZIP_LEVEL))

    def _copy_manifest(self, file: Path, base: Path) -> None:
        resolved, root = file.resolve(), base.resolve()
        name = resolved.relative_to(root) if resolved.is_relative_to(root) else Path(file.name)
        # Where the experiment keeps them in manifests/ anyway, its copy finds them there too and can be run again.
        inside = self.directory if name.parts[0] == "manifests" else self.directory / "manifests"
        target = inside / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _write(target, file.read_bytes())

    def environment(self, facts: Mapping[str, Any]) -> None:
        """Write environment.json: what is known about machine, software and network, floors included."""
        self._environment = {**facts, "builds": self._environment.get("builds", {})}
        self._document("environment.json", self._environment)

    def build_facts(self, build: str, facts: Mapping[str, Any]) -> None:
        """Add what is true of one build only to environment.json, under ``builds``."""
        self._environment.setdefault("builds", {})[build] = dict(facts)
        self._document("environment.json", self._environment)

    def cell(
        self,
        attempt: Attempt,
        position: int,
        arm: Arm,
        cell: Cell,
        values: Sequence[tuple[str, Sequence[float]]],
    ) -> None:
        """Append the samples of one cell: a gzip member of its own, on disk when this returns."""
        payload = "" if cell.payload_bytes is None else cell.payload_bytes
        key = (
            f"{attempt.build},{attempt.round},{attempt.number},{position},{cell.arm_name(arm)},{arm.mode},{arm.proxy},"
        )
        key += f"{cell.path},{cell.probe.label},{payload}"
        rows = [f"{key},{metric},{_number(value)}\n" for metric, figures in values for value in figures]
        self._append("samples.csv.gz", gzip.compress("".join(rows).encode(), _GZIP_LEVEL))

    def requests(self, attempt: Attempt, arm: Arm, cell: Cell, requests: Sequence[Request]) -> None:
        """Append every HTTP request of a cell to requests.csv.gz: when it was due and over, and who answered it how."""
        if not requests:
            return
        key = f"{attempt.build},{attempt.round},{attempt.number},{cell.arm_name(arm)},{cell.path},{cell.probe.label}"
        rows = [
            f"{key},{_number(each.due_ms)},{_number(each.over_ms)},{each.status},{each.pod},{each.problem}\n"
            for each in requests
        ]
        if not (self.directory / "requests.csv.gz").exists():
            rows.insert(0, ",".join(REQUEST_COLUMNS) + "\n")
        self._append("requests.csv.gz", gzip.compress("".join(rows).encode(), _GZIP_LEVEL))

    def happenings(self, attempt: Attempt, arm: Arm, cell: Cell, happenings: Sequence[Happening]) -> None:
        """Append what was done to the cluster while a cell ran to events.jsonl."""
        key = {"build": attempt.build, "round": attempt.round, "attempt": attempt.number}
        where = {**key, "arm": cell.arm_name(arm), "path": cell.path, "probe": cell.probe.label}
        for happening in happenings:
            self._append("events.jsonl", _line({**where, **asdict(happening)}))

    def round(self, record: Mapping[str, Any]) -> None:
        """Append one attempt at a round to rounds.jsonl."""
        self._append("rounds.jsonl", _line(record))

    def evidence(self, record: Mapping[str, Any], pcap_name: str, pcap_file: bytes) -> None:
        """Append one finding to evidence.jsonl and keep its packets as a pcap file."""
        _write(self.directory / "evidence" / pcap_name, pcap_file)
        self._append("evidence.jsonl", _line({**record, "pcap": f"evidence/{pcap_name}"}))

    def _append(self, name: str, data: bytes) -> None:
        with (self.directory / name).open("ab") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())

    def _document(self, name: str, content: Mapping[str, Any]) -> None:
        _write(self.directory / name, json.dumps({"format": FORMAT, **content}, indent=1).encode() + b"\n")


def _write(file: Path, data: bytes) -> None:
    """Write a whole file or, if the run dies meanwhile, none of it."""
    unfinished = file.with_name(f".{file.name}.unfinished")
    with unfinished.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    unfinished.replace(file)


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record).encode() + b"\n"


def _number(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) >= 0.001 or value == 0 else repr(value)
