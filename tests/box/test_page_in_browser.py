"""The page in a real browser, against a cluster in the background: drawn by its script, a trace by its link."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from html import unescape
from pathlib import Path

import pytest

from tests.box.test_command_line import SMOKE_PODS, command, told
from tests.box.test_living_cluster import folder, kubectl, up

pytestmark = pytest.mark.box

__all__ = ["folder"]  # the fixture, under its own name

# A browser that looks for nothing outside this machine.
_BROWSER = (
    "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
_SCRIPT_MS = 4000  # of the page's own time, which passes as fast as its requests are answered


def document(url: str) -> str:
    """The page as it is after its script has run."""
    with tempfile.TemporaryDirectory() as profile:
        argv = [*_BROWSER, f"--user-data-dir={profile}", f"--virtual-time-budget={_SCRIPT_MS}", "--dump-dom", url]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout


def text_of(page: str, element_id: str) -> str:
    """The text of an element that has one closing tag."""
    found = re.search(rf'<(\w+)[^>]* id="{element_id}"[^>]*>(.*?)</\1>', page, re.DOTALL)
    assert found, f"no {element_id} in {page}"
    return unescape(re.sub(r"<[^>]+>", " ", found[2]))


def test_the_page_shows_the_cluster(folder: Path) -> None:
    kubeconfig = up("root", folder, "single_switch", "-f", str(SMOKE_PODS), "--name", "seen")
    odd = "<img src=x onerror=document.title='taken'>"
    event = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": "odd", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "name": "a", "namespace": "default"},
        "type": "Warning",
        "reason": "Odd",
        "message": odd,
    }
    file = folder / "event.json"
    file.write_text(json.dumps(event))
    done = kubectl("root", folder, kubeconfig, "create", "-f", str(file))
    assert done.returncode == 0, done.stderr
    listed = command("root", folder, "ps", "-o", "json")
    (cluster,) = json.loads(listed.stdout)["clusters"]
    pods = json.loads(kubectl("root", folder, kubeconfig, "get", "pods", "-o", "json").stdout)["items"]
    names = [pod["metadata"]["name"] for pod in pods]

    page = document(f"{cluster['page']}#pod/default/{names[0]}")
    assert "<title>seen</title>" in page  # and not what the message of the Event would have made of it
    for name in names:
        assert f'data-ref="pod/default/{name}"' in page, page
    assert {"node/n1", "node/n2", "ext/ext1"} <= set(re.findall(r'data-ref="([^"]+)"', page))
    assert "line" in page and text_of(page, "chosen") == f"pod/default/{names[0]}"
    assert "Running" in text_of(page, "details")
    assert odd in text_of(page, "events")

    traced = document(f"{cluster['page']}#trace=pod/default/{names[0]},pod/default/{names[1]}")
    way = text_of(traced, "way")
    assert way.startswith("It arrives, and so does the reply.") and "REQUEST" in way, way
    done = command("root", folder, "down", "seen")
    assert done.returncode == 0, told(done)
