"""Which clusters this user has running: a file each, so that another command can enter them."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.errors import RunError
from testbed.network.place import Place
from testbed.spec.endpoints import EndpointRef


@dataclass(frozen=True)
class Running:
    """A running cluster. ``init_pid`` is the box's PID 1 as seen from outside; ``started_ticks`` tells it from a later
    process with the same number (field 22 of /proc/PID/stat)."""

    name: str
    init_pid: int
    started_ticks: int
    places: dict[str, Place]

    @property
    def alive(self) -> bool:
        return _started_ticks(self.init_pid) == self.started_ticks


def directory() -> Path:
    """Where the files are: the user's own runtime directory."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and Path(base).is_dir():
        return Path(base) / "testbed"
    return Path(tempfile.gettempdir()) / f"testbed-{os.getuid()}"


@contextmanager
def registered(name: str, init_pid: int, places: Mapping[EndpointRef, Place]) -> Iterator[Running]:
    """Make a cluster known under a name while it runs. Raises RunError when the name is taken by a running one."""
    folder = directory()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise RunError(f"{folder} belongs to another user")
    with suppress(LookupError):
        find(name)
        raise RunError(f"a cluster named {name} is running already")
    running = Running(name, init_pid, _started_ticks(init_pid), {str(key): place for key, place in places.items()})
    file = folder / f"{name}.json"
    part = file.with_suffix(".part")
    part.write_text(json.dumps(_to_json(running)))
    part.replace(file)
    try:
        yield running
    finally:
        file.unlink(missing_ok=True)


def running_clusters() -> list[Running]:
    """Every cluster of this user that is alive; files of dead ones are removed."""
    found = []
    folder = directory()
    for file in sorted(folder.glob("*.json")) if folder.is_dir() and folder.stat().st_uid == os.getuid() else ():
        try:
            running = _from_json(json.loads(file.read_text()))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # damaged, or removed meanwhile: not a cluster that can be entered
        if running.alive:
            found.append(running)
        else:
            file.unlink(missing_ok=True)
    return found


def find(name: str | None = None) -> Running:
    """The running cluster of a name, or the only one. Raises LookupError saying what is running."""
    clusters = running_clusters()
    if name is not None:
        clusters = [cluster for cluster in clusters if cluster.name == name]
        if not clusters:
            raise LookupError(f"no cluster named {name} is running")
    if not clusters:
        raise LookupError("no cluster is running; start one with: testbed up single_switch")
    if len(clusters) > 1:
        raise LookupError(f"several clusters are running: {', '.join(cluster.name for cluster in clusters)}")
    return clusters[0]


def _to_json(running: Running) -> dict[str, Any]:
    places = {
        key: {"namespace": p.namespace, "hostname": p.hostname, "files": dict(p.files), "state_name": p.state_name}
        for key, p in running.places.items()
    }
    return {
        "name": running.name,
        "init_pid": running.init_pid,
        "started_ticks": running.started_ticks,
        "places": places,
    }


def _from_json(data: dict[str, Any]) -> Running:
    places = {key: Place(**values) for key, values in data["places"].items()}
    return Running(data["name"], data["init_pid"], data["started_ticks"], places)


def _started_ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    # The command's name is in brackets and may contain anything; start time is the 20th field after it.
    return int(re.sub(r"^.*\)", "", text, flags=re.DOTALL).split()[19])
