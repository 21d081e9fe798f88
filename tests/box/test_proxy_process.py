"""The proxies' process: rules that come and go, changes against everything anew, restarts, repair and errors."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from testbed.cluster.confirm import NotConfirmed
from testbed.cluster.kinds import SERVICE
from testbed.cluster.values import ProxyName
from testbed.network.netns import entered
from testbed.proxy.conntrack import flush
from tests.box.harness import USERS, run_in_box
from tests.box.proxy_wires import confirm_within, proxy_process, proxy_world, set_proxy
from tests.box.service_cases import READY, TERMINATING, Placed, World, placed, ready, serve, service_wire
from tests.box.service_traffic import ask, servers

pytestmark = pytest.mark.box

_DUMPS: dict[ProxyName, tuple[list[str], Callable[[str], dict[str, Any]]]] = {
    "iptables": (["iptables-save"], lambda text: _iptables(text)),
    "nftables": (["nft", "-j", "list", "ruleset"], lambda text: _nftables(text)),
}

_OTHERS = 100  # Services, so that writing all rules takes its time

_LAST_RULES = {
    "*nat KUBE-SERVICES": 1,
    "*nat KUBE-NODEPORTS": 0,
    "*filter KUBE-SERVICES": 2,
    "*filter KUBE-EXTERNAL-SERVICES": 2,
}


def rules_of(node: str, proxy: ProxyName) -> dict[str, Any]:
    """All rules of a node's kernel, in an order that does not depend on how they came there."""
    argv, read = _DUMPS[proxy]
    with entered(node):
        done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=30)
    return read(done.stdout)


def _iptables(text: str) -> dict[str, Any]:
    chains: dict[str, Any] = {}
    table = ""
    for line in text.splitlines():
        if line.startswith("*"):
            table = line
        elif line.startswith(":KUBE-"):
            chains.setdefault(f"{table} {line[1:].split()[0]}", [])
        elif line.startswith("-A"):
            _, chain, rule = line.split(maxsplit=2)
            chains.setdefault(f"{table} {chain}", []).append(rule)
    for chain, rules in chains.items():
        # Those of Services come before the chain's own last rules; which of them comes first means nothing.
        if chain in _LAST_RULES:
            count = len(rules) - _LAST_RULES[chain]
            rules[:count] = sorted(rules[:count])
    return chains


def _nftables(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for entry in json.loads(text)["nftables"]:
        ((kind, body),) = entry.items()
        if kind == "metainfo" or body["name" if kind == "table" else "table"] != "kube-proxy":
            continue
        body.pop("handle")
        if kind == "rule":
            found.setdefault(f"rules {body['chain']}", []).append(body["expr"])
        else:
            body["elem"] = sorted(json.dumps(element) for element in body.get("elem", []))
            found[f"{kind} {body['name']}"] = body
    return found


def _change_everything(world: World, one: Placed, sticky: Placed, kept: Placed) -> None:
    """Services that come, change and go."""
    a, b, c, d = world.pods
    with placed(world, "passing", ready(a, b), type="NodePort") as passing:
        one.endpoints(ready(c, d))
        sticky.endpoints({a: READY, b: READY, c: TERMINATING})
        passing.endpoints({})
        sticky.endpoints({c: TERMINATING})
        kept.endpoints({})
    one.endpoints(ready(d))
    kept.endpoints(ready(a, c))
    one.endpoints(ready(a, b, d))
    longer = {"spec": {"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 90}}}}
    world.confirm([world.store.patch(SERVICE, "sticky", longer, "default")])
    sticky.endpoints(ready(a, d))


def changes_leave_what_a_fresh_start_makes() -> None:
    affinity = {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}}
    local = {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local"}
    with proxy_world("openflow") as (world, url):
        a, b, c, d = world.pods
        for proxy in _DUMPS:
            with ExitStack() as services:
                with proxy_process(url):
                    set_proxy(world, proxy)
                    one = services.enter_context(placed(world, "one", ready(a, b, c), type="LoadBalancer"))
                    sticky = services.enter_context(placed(world, "sticky", ready(d), **affinity))
                    kept = services.enter_context(placed(world, "kept", ready(a), **local))
                    _change_everything(world, one, sticky, kept)
                    changed = {node: rules_of(node, proxy) for node in world.nodes}
                # That process was killed, and its rules are still there. The next sees what has changed meanwhile.
                meanwhile = world.store.create(service_wire("meanwhile"))
                with proxy_process(url):
                    world.confirm([meanwhile])
                    for node in world.nodes:
                        assert meanwhile["spec"]["clusterIP"] in json.dumps(rules_of(node, proxy))
                        assert meanwhile["spec"]["clusterIP"] not in json.dumps(changed[node])
                    world.confirm([world.store.delete(SERVICE, "meanwhile", "default")])
                    for node in world.nodes:
                        assert rules_of(node, proxy) == changed[node], (proxy, node)
                    services.close()


def a_restart_interrupts_nobody() -> None:
    """Clients that go on asking never meet a Service without rules."""
    with proxy_world("openflow") as (world, url), servers() as running:
        serve(world, running)
        client = next(iter(world.pods.values())).namespace
        for proxy in _DUMPS:
            with ExitStack() as services:
                with proxy_process(url):
                    set_proxy(world, proxy)
                    web = services.enter_context(placed(world, "web", ready(*world.pods)))
                    others = [world.store.create(service_wire(f"{proxy}-{number}")) for number in range(_OTHERS)]
                    world.confirm(others)
                # That process was killed; the next one finds what it has left.
                with asking(client, web.cluster_ip) as answers, proxy_process(url):
                    meanwhile = world.store.create(service_wire("meanwhile"))
                    world.confirm([meanwhile])
                    world.confirm([world.store.delete(SERVICE, "meanwhile", "default")])
                    met = list(answers)
                    services.close()
                assert set(met) <= set(world.pods), (proxy, Counter(met))


@contextmanager
def asking(client: str, address: str) -> Iterator[list[str]]:
    """One connection after the other meanwhile: who answered, or what went wrong."""
    answers: list[str] = []
    over = threading.Event()

    def ask_on() -> None:
        while not over.is_set():
            try:
                answers.append(ask(client, address, 80).server)
            except OSError as error:
                answers.append(type(error).__name__)

    thread = threading.Thread(target=ask_on)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def rules_come_and_go() -> None:
    with proxy_world("openflow") as (world, url), servers() as running, proxy_process(url):
        serve(world, running)
        client = next(iter(world.pods.values())).namespace
        with placed(world, "web", ready(*world.pods)) as service:
            assert not _kube_rules("n1"), "rules that nobody asked for"
            for proxy in ("iptables", "nftables", "iptables"):
                set_proxy(world, proxy)
                assert ask(client, service.cluster_ip, 80, "UDP").server in world.pods
                assert _kube_rules("n1") == {proxy}
            set_proxy(world, "openflow")
            for node in world.nodes:
                assert not _kube_rules(node)
                assert _translated(node) == 0, "a connection that comes to life again with the next rules"


def _kube_rules(node: str) -> set[str]:
    """The proxies that have rules on a node."""
    return {proxy for proxy in _DUMPS if "KUBE" in json.dumps(rules_of(node, proxy)).upper()}


def _translated(node: str) -> int:
    """The number of connections that a node's kernel translates (and which this forgets)."""
    with entered(node):
        return flush(lambda connection: connection.is_translated)


_DAMAGE = {
    "iptables": ["iptables-restore"],  # with an empty table nat: all of it is gone
    "nftables": ["nft", "-f", "-"],
}
_DAMAGE_TEXT = {"iptables": "*nat\nCOMMIT\n", "nftables": "delete table ip kube-proxy\n"}


def damage_is_repaired() -> None:
    with proxy_world("openflow") as (world, url), servers() as running, proxy_process(url):
        serve(world, running)
        client = next(iter(world.pods.values())).namespace
        a, b, *_ = world.pods
        for proxy in _DUMPS:
            set_proxy(world, proxy)
            with placed(world, f"web-{proxy}", ready(a)) as web, placed(world, f"other-{proxy}", ready(a)) as other:
                before = rules_of("n1", proxy)
                with entered("n1"):
                    subprocess.run(_DAMAGE[proxy], input=_DAMAGE_TEXT[proxy], text=True, check=True, timeout=20)
                assert rules_of("n1", proxy) != before
                web.endpoints(ready(b))
                assert ask(client, web.cluster_ip, 80).server == b
                assert ask(client, other.cluster_ip, 80).server == a, "rules that had nothing to do with the change"


def a_missing_program_is_reported() -> None:
    with (
        proxy_world("openflow") as (world, url),
        proxy_process(url, environment={**os.environ, "PATH": "/nonexistent"}),
    ):
        impatient = replace(world, confirm=lambda changed: confirm_within(world, changed, 2))
        try:
            set_proxy(impatient, "nftables")
        except NotConfirmed as error:
            assert set(error.nodes) == set(world.nodes)
            assert "nft" in error.errors["n1"], error.errors
        else:
            raise AssertionError("confirmed without a program to do it")


@pytest.mark.parametrize("user", USERS)
def test_changes_leave_what_a_fresh_start_makes(user: str) -> None:
    run_in_box(changes_leave_what_a_fresh_start_makes, user)


@pytest.mark.parametrize(
    "body", [a_restart_interrupts_nobody, rules_come_and_go, damage_is_repaired, a_missing_program_is_reported]
)
def test_process(body: Callable[[], None]) -> None:
    run_in_box(body, USERS[0])
