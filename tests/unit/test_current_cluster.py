"""The cluster that commands mean when none is named: the one that kubectl would reach."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from testbed.network.current_cluster import current_cluster
from testbed.network.registry import Claim, claim


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    return tmp_path


def start(name: str, port: int) -> Claim:
    """A cluster of a name, with a kubeconfig as :mod:`testbed.network.kubeconfig` writes it."""
    claimed = claim(name)
    claimed.running.kubeconfig.write_text(json.dumps(kubeconfig(name, port)))
    return claimed


def kubeconfig(name: str, port: int) -> dict[str, object]:
    server = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": f"of {name}"}
    return {
        "clusters": [{"name": name, "cluster": server}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }


def use(monkeypatch: pytest.MonkeyPatch, *files: Path) -> None:
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, files)))


def test_without_a_name_it_is_that_of_kubeconfig(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = start("one", 1001), start("two", 1002)
    with pytest.raises(LookupError, match="several clusters are running: one, two"):
        current_cluster(None)
    for claimed in (one, two):
        use(monkeypatch, claimed.running.kubeconfig)
        assert current_cluster(None, to_end=True).name == claimed.running.name
    assert current_cluster("one").name == "one", "a name given counts more"


def test_of_several_files_the_context_counts_that_kubectl_uses(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = start("one", 1001).running.kubeconfig, start("two", 1002).running.kubeconfig
    use(monkeypatch, runtime / "missing", two, one)
    assert current_cluster(None).name == "two"
    one.write_text(json.dumps({**json.loads(one.read_text()), "current-context": "two"}))
    merged = runtime / "config"
    both = {
        "clusters": [*kubeconfig("one", 1001)["clusters"], *kubeconfig("two", 1002)["clusters"]],  # type: ignore[misc]
        "contexts": [{"name": "mine", "context": {"cluster": "two"}}],
        "current-context": "mine",
    }
    merged.write_text(yaml.safe_dump(both))
    use(monkeypatch, merged)
    assert current_cluster(None).name == "two"


def test_no_other_cluster_stands_in_for_one_that_has_ended(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, _ = start("old", 1001), start("new", 1002)
    use(monkeypatch, ended.running.kubeconfig)
    ended.running.log.write_text("killed")
    ended.release()
    with pytest.raises(LookupError, match="no cluster named old is running; there are: new\nold ended unexpectedly"):
        current_cluster(None)
    elsewhere = runtime / "elsewhere" / "testbed" / "far.kubeconfig"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text(json.dumps(kubeconfig("new", 1003)))
    use(monkeypatch, elsewhere)
    with pytest.raises(LookupError, match=r"far.kubeconfig, of none of the running clusters: new; say which is meant"):
        current_cluster(None)


@pytest.mark.parametrize(
    "text", ["{", "[]", "clusters: 3", "current-context: [1]", "contexts: [1]\ncurrent-context: 1"]
)
def test_with_somebody_elses_kubeconfig_the_only_cluster_is_entered_and_not_ended(
    text: str, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start("lab", 1001)
    (runtime / "config").write_text(text)
    use(monkeypatch, runtime / "config")
    assert current_cluster(None).name == "lab"
    with pytest.raises(LookupError, match="say which is meant"):
        current_cluster(None, to_end=True)
