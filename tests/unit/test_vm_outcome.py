"""What `make test-vm` calls passed: steps that ended well, the kernel's datapath, the links' delay in the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.vm.outcome import outcomes_of_tests, smoke_problems, step_problems

STEPS = (
    "kernel modules",
    "cached files",
    "10 s of uptime",
    "doctor",
    "smoke experiment",
    "limits",
    "mode switching",
    "services",
)
ALL_WELL = "".join(f"{name}\t0\t1\n" for name in STEPS)


def test_steps_that_all_ended_well_are_no_problem() -> None:
    assert list(step_problems(ALL_WELL)) == []


def test_a_step_that_failed_and_one_that_never_ended_are_named() -> None:
    text = ALL_WELL.replace("doctor\t0", "doctor\t124").replace("mode switching\t0\t1\n", "")
    assert list(step_problems(text)) == ["step 'doctor' ended with its time limit", "step 'mode switching' did not end"]


KERNEL = {"datapath": "system"}


def figures(far_us: float, near_us: float) -> dict[tuple[str, str], list[float]]:
    modes = ("overlay", "routed")
    return {(mode, "cross_node"): [far_us, far_us + 900] for mode in modes} | {
        (mode, "same_node"): [near_us] for mode in modes
    }


def test_delayed_links_on_the_kernel_datapath_are_no_problem() -> None:
    assert list(smoke_problems(KERNEL, figures(4100, 300))) == []


@pytest.mark.parametrize(
    ("environment", "far_us", "near_us", "said"),
    [
        ({"datapath": "netdev"}, 4100, 300, "datapath 'netdev'"),
        (KERNEL, 3900, 300, "3900 us is faster than the links' delay"),
        (KERNEL, 4100, 4050, "4050 us looks like a link was crossed"),
    ],
)
def test_figures_that_speak_against_it_are_told(
    environment: dict[str, str], far_us: float, near_us: float, said: str
) -> None:
    problems = list(smoke_problems(environment, figures(far_us, near_us)))
    assert problems
    assert all(said in problem for problem in problems)


def test_a_mode_without_samples_is_told() -> None:
    only_overlay = {key: values for key, values in figures(4100, 300).items() if key[0] == "overlay"}
    assert list(smoke_problems(KERNEL, only_overlay)) == ["no udp_rr samples for routed"]


def test_tests_are_counted_by_how_they_ended(tmp_path: Path) -> None:
    file = tmp_path / "tests.xml"
    cases = "<testcase/><testcase><failure/></testcase><testcase><error/></testcase><testcase><skipped/></testcase>"
    file.write_text(f"<testsuites><testsuite>{cases}<testcase/></testsuite></testsuites>")
    assert outcomes_of_tests(file) == {"passed": 2, "failed": 2, "skipped": 1}
