"""When an output is what its page shows, and what is read from a page."""

from __future__ import annotations

import pytest

from tests.walkthroughs.outputs import Names
from tests.walkthroughs.pages import FOLDER, INDEX, steps_of, with_output

PAGES = sorted(FOLDER.glob("*.md"))


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("", ""),
        ("web   1/1  Running  0  2s\n", "web  1/1  Running  0  13m2s  \n"),
        ("time=0.05 ms\n", "time=12 ms\n"),
        ("rtt = 0.1/0.2/0.3/0.0 ms\n", "rtt = 11.1/2.25/31.3/0.40 ms\n"),
        ("at 10.244.0.3 and 10.244.1.2\n", "at 10.244.1.7 and 10.244.0.3\n"),
        ("web-998vndwq2b-2bk6c and web-998vndwq2b-58d89\n", "web-86c57db685-wh6zl and web-86c57db685-8c2tq\n"),
        ("8000:30086/TCP\n", "8000:31999/TCP\n"),
        ("first\n...\nlast\n", "first\na\nb\nlast\n"),
        ("first\n...\nlast\n", "first\nlast\n"),
        ("a ... c\n", "a b b c\n"),
    ],
)
def test_what_may_differ(shown: str, printed: str) -> None:
    assert Names().match(shown, printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("", "error\n"),
        ("web  1/1  Running  0  2s\n", "web  1/1  Running  1  2s\n"),
        ("web  1/1  Running  0  2s\n", ""),
        ("at 192.168.1.11\n", "at 192.168.1.12\n"),
        ("at 10.244.0.1\n", "at 10.244.0.7\n"),
        ("at 10.244.0.3\n", "at 10.96.1.1\n"),
        ("at 10.244.0.3 and 10.244.0.3\n", "at 10.244.0.3 and 10.244.0.4\n"),
        ("at 10.244.0.3 and 10.244.0.4\n", "at 10.244.0.3 and 10.244.0.3\n"),
        ("first\n...\nlast\n", "first\na\nb\n"),
        ("a ... c\n", "a b\n c\n"),
        ("port 80\n", "port 81\n"),
        ("0% packet loss\n", "100% packet loss\n"),
    ],
)
def test_what_may_not(shown: str, printed: str) -> None:
    assert not Names().match(shown, printed)


def test_a_name_means_the_same_on_the_whole_page() -> None:
    names = Names()
    assert names.match("10.244.0.3\n", "10.244.0.9\n")
    assert not names.match("10.244.0.3\n", "10.244.0.3\n")
    assert not names.match("10.244.0.4\n", "10.244.0.9\n")
    assert names.match("10.244.0.3 10.244.0.4\n", "10.244.0.9 10.244.0.3\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_read_whole(page) -> None:  # type: ignore[no-untyped-def]
    text = page.read_text()
    steps = steps_of(page)
    assert [step.commands for step in steps] == [part.split("```\n")[0] for part in text.split("```sh\n")[1:]]
    assert sum(bool(step.printed) for step in steps) == text.count("```text\n")
    assert with_output(text, [step.printed for step in steps]) == text


def test_the_index_names_every_page_and_each_ends_by_cleaning_up() -> None:
    index = INDEX.read_text()
    for page in PAGES:
        if page != INDEX:
            assert f"]({page.name})" in index
            assert page.read_text().count("\n## Clean up\n") == 1
            assert steps_of(page)[-1].commands.startswith("kubectl delete ")
