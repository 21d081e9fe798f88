"""Limits as the files of cgroups, and where cgroups may be made."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from testbed.network.pods.cgroup_trees import Tree, find_trees
from testbed.network.pods.environment import NotConfigured
from testbed.network.pods.joining import joining
from testbed.network.pods.limits import Limits, limits_of, settings

BOTH = ("cpu", "memory")


def container(**resources: Any) -> dict[str, Any]:
    return {"name": "main", "image": "busybox", "resources": resources}


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, Limits()),
        ({"requests": {"cpu": "100m", "memory": "1Gi"}}, Limits(cpu_request=0.1)),
        ({"limits": {"cpu": 2, "memory": "64Mi"}}, Limits(cpu=2.0, cpu_request=2.0, memory_bytes=64 << 20)),
        ({"limits": {"cpu": "1500m"}, "requests": {"cpu": "250m"}}, Limits(cpu=1.5, cpu_request=0.25)),
        ({"limits": {"cpu": "0", "memory": "0"}}, Limits(cpu_request=0.0)),
        ({"limits": {"memory": "1e400"}}, Limits(memory_bytes=1 << 60)),
        ({"limits": {"cpu": "1E"}}, Limits(cpu=10_000.0, cpu_request=10_000.0)),
    ],
)
def test_what_a_spec_limits(resources: dict[str, Any], expected: Limits) -> None:
    assert limits_of(container(**resources)) == expected


def test_what_is_no_quantity_is_said() -> None:
    with pytest.raises(NotConfigured, match="'64 MB' is not a quantity"):
        limits_of(container(limits={"memory": "64 MB"}))


def test_the_files_of_a_group() -> None:
    limits = Limits(cpu=0.5, cpu_request=1.0, memory_bytes=64 << 20)
    assert settings(Tree(1, Path("/"), BOTH), limits) == {
        "cpu.shares": "1024",
        "cpu.cfs_period_us": "100000",
        "cpu.cfs_quota_us": "50000",
        "memory.limit_in_bytes": "67108864",
        "memory.memsw.limit_in_bytes": "67108864",
    }
    assert settings(Tree(2, Path("/"), BOTH), limits) == {
        "cpu.weight": "39",  # of 1024 shares, as in KEP-2254
        "cpu.max": "50000 100000",
        "memory.max": "67108864",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
    }
    assert settings(Tree(2, Path("/"), ("memory",)), Limits(cpu=1.0)) == {}


@pytest.mark.parametrize(
    ("cpu", "quota", "weight"), [(0.001, "1000", "1"), (64.0, "6400000", "2500"), (256, "25600000", "10000")]
)
def test_the_kernels_bounds_are_kept(cpu: float, quota: str, weight: str) -> None:
    assert settings(Tree(2, Path("/"), BOTH), Limits(cpu=cpu, cpu_request=cpu)) == {
        "cpu.weight": weight,
        "cpu.max": f"{quota} 100000",
    }


def test_a_command_enters_every_group_and_keeps_its_arguments(tmp_path: Path) -> None:
    entrances = [tmp_path / "a", tmp_path / "b"]
    argv = joining([str(file) for file in entrances], ["printf", "<%s>", "a  b", "--", "$x"])
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=10)
    assert done.stdout == "<a  b><--><$x>"
    assert [file.read_text() for file in entrances] == ["0\n", "0\n"]
    assert joining([], ["true"]) == ["true"]


# -- where -----------------------------------------------------------------------------------------------------------


def mount(kind: str, folder: Path, options: str, root: str = "/") -> str:
    return (
        f"30 24 0:26 {root} {str(folder).replace(' ', chr(92) + '040')} rw,nosuid shared:4 - {kind} {kind} rw,{options}"
    )


def group(folder: Path, *, has: str = "", gives: str = "", processes: str = "", **limits: str) -> None:
    """A folder that looks like a group of version 2 that is not the topmost."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "cgroup.controllers": has,
        "cgroup.subtree_control": gives,
        "cgroup.procs": processes,
        "cgroup.type": "domain",
    }
    limited = {f"{name}.max": value for name, value in limits.items()}
    for name, text in {**files, "memory.max": "max", "cpu.max": "max 100000", **limited}.items():
        (folder / name).write_text(f"{text}\n")


def test_version_1_below_the_own_group(tmp_path: Path) -> None:
    folder = tmp_path / "with a space"
    for name in ("cpu,cpuacct/user", "memory/user/own"):
        (folder / name).mkdir(parents=True)
    membership = "9:name=systemd:/user\n4:memory:/user/own\n3:cpu,cpuacct:/user\n0::/user\n"
    mounts = [
        mount("cgroup2", folder / "unified", "nsdelegate"),
        mount("cgroup", folder / "cpu,cpuacct", "cpu,cpuacct"),
        mount("cgroup", folder / "memory", "memory"),
        mount("tmpfs", folder, "mode=755"),
    ]
    assert list(find_trees(membership, "\n".join(mounts))) == [
        Tree(1, folder / "cpu,cpuacct/user", ("cpu",)),
        Tree(1, folder / "memory/user/own", ("memory",)),
    ]


def test_version_1_of_which_only_a_part_is_mounted(tmp_path: Path) -> None:
    mounts = mount("cgroup", tmp_path, "memory", root="/docker/abc")
    (tmp_path / "inner").mkdir()
    assert list(find_trees("4:memory:/docker/abc/inner\n", mounts)) == [Tree(1, tmp_path / "inner", ("memory",))]
    assert list(find_trees("4:memory:/elsewhere\n", mounts)) == []


SESSION = "0::/user.slice/user-0.slice/session-1.scope\n"


def systemd(top: Path, **limits: str) -> None:
    """The groups of a person who has logged in as root."""
    group(top, has="cpu io memory pids", gives="cpu memory pids", processes="2")
    (top / "cgroup.type").unlink()
    group(top / "user.slice", has="cpu memory pids", gives="memory pids")
    group(top / "user.slice/user-0.slice", has="memory pids", gives="memory pids")
    group(top / "user.slice/user-0.slice/session-1.scope", has="memory pids", processes="17\n18", **limits)


def test_version_2_in_the_nearest_group_that_gives_both(tmp_path: Path) -> None:
    systemd(tmp_path)
    mounts = mount("cgroup2", tmp_path, "nsdelegate")
    assert list(find_trees(SESSION, mounts)) == [Tree(2, tmp_path, BOTH)]
    group(tmp_path / "user.slice", has="cpu memory pids", gives="cpu memory pids")
    assert list(find_trees(SESSION, mounts)) == [Tree(2, tmp_path / "user.slice", BOTH)]


def test_version_2_never_escapes_a_limit(tmp_path: Path) -> None:
    systemd(tmp_path, memory="1073741824")
    mounts = mount("cgroup2", tmp_path, "nsdelegate")
    assert list(find_trees(SESSION, mounts)) == [], "it has processes, and what is above it is not limited so much"
    group(tmp_path / SESSION[4:].strip(), has="memory pids", memory="1073741824")
    assert [tree.folder.name for tree in find_trees(SESSION, mounts)] == ["session-1.scope"]


def test_version_2_for_what_version_1_does_not_have(tmp_path: Path) -> None:
    systemd(tmp_path / "unified")
    (tmp_path / "memory").mkdir()
    mounts = "\n".join((mount("cgroup2", tmp_path / "unified", ""), mount("cgroup", tmp_path / "memory", "memory")))
    assert set(find_trees(f"4:memory:/\n{SESSION}", mounts)) == {
        Tree(1, tmp_path / "memory", ("memory",)),
        Tree(2, tmp_path / "unified", ("cpu",)),
    }


def test_where_no_group_may_be_made_there_is_none(tmp_path: Path) -> None:
    assert list(find_trees("0::/\n", mount("tmpfs", tmp_path, "mode=755"))) == []
