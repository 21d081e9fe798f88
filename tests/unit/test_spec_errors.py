"""What a user reads when the input is wrong: every case's full text is pinned in tests/golden/errors.

A case is an experiment file; its lines that begin with ``#--set`` are options of the command line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from testbed.errors import InputError
from testbed.spec import load_experiment, load_topology_argument

CASES = Path(__file__).parents[1] / "golden" / "errors"


@pytest.mark.parametrize("case", sorted(path.stem for path in CASES.glob("*.yaml")))
def test_error_text(case: str, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    lines = (CASES / f"{case}.yaml").read_bytes().decode(errors="replace").splitlines()
    overrides = [line.removeprefix("#--set ") for line in lines if line.startswith("#--set ")]
    with pytest.raises(InputError) as caught:
        load_experiment(f"{case}.yaml", overrides)
    assert caught.value.exit_status == 2
    golden(f"errors/{case}.txt", f"{caught.value}\n")


@pytest.mark.parametrize(
    ("case", "argument", "manifests"),
    [
        ("unknown", "leafspine", []),
        ("parameter_form", "leaf_spine,leaves=two,spines=2,spines=3,4", []),
        ("parameter_name", "leaf_spine,leafs=2,spines=99", []),
        ("file_not_there", "nowhere.yaml", []),
        ("manifest_not_there", "single_switch", ["nowhere.yaml"]),
        ("manifest_twice", "single_switch", ["manifests/two_pods.yaml", "manifests/two_pods.yaml"]),
        ("manifest_wrong", "single_switch,nodes=1", ["manifests/two_pods.yaml", "manifests/kinds.yaml"]),
    ],
)
def test_topology_argument_error_text(
    case: str,
    argument: str,
    manifests: list[str],
    golden: Callable[[str, str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(CASES)
    with pytest.raises(InputError) as caught:
        load_topology_argument(argument, manifests)
    golden(f"errors/topology_argument_{case}.txt", f"{caught.value}\n")
