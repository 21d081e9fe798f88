"""Which running cluster is meant when none is named: the one that kubectl would reach, too."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from testbed.network.registry import Running, directory, find, running_clusters


def current_cluster(name: str | None, *, to_end: bool = False) -> Running:
    """The running cluster of a name; without one that of ``$KUBECONFIG``, else the only one.

    Where KUBECONFIG is of a testbed's cluster that does not run, none is meant; nor, ``to_end`` it, where KUBECONFIG
    is of any other cluster. Raises LookupError, which says what is running.
    """
    given = os.environ.get("KUBECONFIG", "")
    files = [Path(text) for text in given.split(os.pathsep) if text]
    clusters = running_clusters()
    if name is not None or not files or not clusters:
        return find(name)
    meant = _server(files)
    for running in clusters:
        if meant is not None and meant == _server([running.kubeconfig]):
            return running
    for file in files:
        if file.parent == directory() and not file.exists():
            return find(file.stem)  # which says how it ended
    if to_end or any(map(_is_of_a_testbed, files)):
        names = ", ".join(running.name for running in clusters)
        raise LookupError(f"KUBECONFIG is {given}, of none of the running clusters: {names}; say which is meant")
    return find()


def _is_of_a_testbed(file: Path) -> bool:
    return file.suffix == ".kubeconfig" and file.parent.name.partition("-")[0] == "testbed"


def _server(files: Iterable[Path]) -> tuple[str, str] | None:
    """Address and certificate authority of the server that kubectl would call, given these files.

    As in https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/: the first file that
    sets something wins, and files that are not there are passed over. None where they say nothing that can be read.
    """
    current, contexts, clusters = "", dict[str, Any](), dict[str, Any]()
    for content in map(_read, files):
        current = current or content.get("current-context") or ""
        for known, part, inner in ((contexts, "contexts", "context"), (clusters, "clusters", "cluster")):
            for entry in _entries(content.get(part)):
                if isinstance(entry, dict) and isinstance(entry.get(inner), dict):
                    known.setdefault(str(entry.get("name")), entry[inner])
    cluster = clusters.get(str(contexts.get(str(current), {}).get("cluster")))
    if cluster is None:
        return None
    return str(cluster.get("server")), str(cluster.get("certificate-authority-data"))


def _read(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text()
        # The testbed's own are JSON, which is read a hundred times as fast.
        content = json.loads(text) if text.startswith("{") else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _entries(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
