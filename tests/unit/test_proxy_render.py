"""The kernel proxies' rules as text: golden files, and changes step by step against everything at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings

from testbed.cluster.values import ClusterState
from testbed.proxy.iptables import IptablesRules
from testbed.proxy.ipvs import IpvsRules
from testbed.proxy.nftables import NftablesRules
from testbed.proxy.rules import Renderer, Rules, Target, difference
from tests.unit.proxy_states import (
    CONFIG,
    Iptables,
    Nftables,
    endpoint,
    golden_text,
    histories,
    one_of_each,
    port,
    state,
)

RULES: dict[str, Rules] = {"iptables": IptablesRules(), "nftables": NftablesRules(), "ipvs": IpvsRules()}


def _target(name: str, of: ClusterState, node_name: str = "n1") -> Target:
    return Renderer(name, RULES[name]).targets(of)[node_name]


@pytest.mark.parametrize("name", RULES)
def test_rules_of_a_node(name: str, golden: Callable[[str, str], None]) -> None:
    target = _target(name, one_of_each())
    golden(f"proxy/{name}.txt", golden_text(RULES[name].install(target.base, target.pieces())))


@pytest.mark.parametrize("name", RULES)
def test_one_endpoint_goes(name: str, golden: Callable[[str, str], None]) -> None:
    before = one_of_each()
    ports = [
        replace(entry, endpoints=entry.endpoints[:-1]) if entry.name == "plain" else entry
        for entry in before.service_ports
    ]
    old, new = _target(name, before), _target(name, state(*ports))
    found = difference(old, new)
    assert list(found) == ["default/plain:http/TCP"]
    golden(f"proxy/{name}_endpoint_goes.txt", golden_text(RULES[name].update(new.base, found.values(), new.pieces)))


# Too short for more than one Service a transaction, sometimes for one.
_LIMIT = 1500


@pytest.mark.parametrize(
    ("name", "rules", "kernel"),
    [
        ("iptables", RULES["iptables"], Iptables),
        ("nftables", RULES["nftables"], Nftables),
        ("iptables", IptablesRules(_LIMIT), Iptables),
        ("nftables", NftablesRules(_LIMIT), Nftables),
    ],
)
@settings(max_examples=120, deadline=None)
@given(history=histories())
def test_step_by_step_is_the_same_as_at_once(
    name: str, rules: Rules, kernel: type[Any], history: list[ClusterState]
) -> None:
    renderer = Renderer(name, rules)
    kernels = {node.name: kernel() for node in history[0].nodes}
    before: dict[str, Target] = {}
    for step in history:
        targets = renderer.targets(step)
        for node_name, target in targets.items():
            old = before.get(node_name)
            if old is None:
                kernels[node_name].run(rules.install(target.base, target.pieces()))
            else:
                kernels[node_name].run(rules.update(target.base, difference(old, target).values(), target.pieces))
        before = targets
    for node_name, changed in kernels.items():
        fresh = kernel()
        target = Renderer(name, RULES[name]).targets(history[-1])[node_name]
        fresh.run(RULES[name].install(target.base, target.pieces()))
        assert vars(_unordered(changed)) == vars(_unordered(fresh))
        changed.run(rules.remove(target.pieces()))
        assert vars(changed) == vars(kernel())


def _unordered(kernel: Any) -> Any:
    """Among the rules of Services in a shared chain the order means nothing; the endings stay where they are."""
    if isinstance(kernel, Iptables):
        for shared, ending in IptablesRules().base(CONFIG, one_of_each().nodes[0]).endings.items():
            rules = kernel.chains.get(shared, [])
            count = len(rules) - len(ending)
            rules[:count] = sorted(rules[:count])
    return kernel


def test_a_transaction_is_no_longer_than_the_limit() -> None:
    ports = [
        replace(
            port(f"svc-{number}", f"10.96.0.{20 + number}", *(f"10.244.1.{host}:80" for host in range(2, 7))),
            affinity_timeout_s=60,
        )
        for number in range(20)
    ]
    limit = 6000
    for rules in (IptablesRules(limit), NftablesRules(limit)):
        name = "iptables" if isinstance(rules, IptablesRules) else "nftables"
        of = Renderer(name, rules).targets(state(*ports))["n1"]
        commands = rules.install(of.base, of.pieces()) + rules.remove(of.pieces())
        sizes = [len(part) for command in commands for part in command.text.split("COMMIT\n")]
        assert max(sizes) < limit + 100, sizes
        assert sum(sizes) > 5 * limit


@pytest.mark.parametrize("name", RULES)
def test_what_did_not_change_is_not_rendered_again(name: str) -> None:
    renderer = Renderer(name, RULES[name])
    before = renderer.targets(one_of_each())["n1"]
    new = port("another", "10.96.0.99", "10.244.0.2:8080")
    after = renderer.targets(state(*one_of_each().service_ports, new))["n1"]
    merged = {**before.shared, **before.own}
    for key, piece in {**after.shared, **after.own}.items():
        assert key not in merged or merged[key] is piece, key
    assert set(difference(before, after)) <= {new.key, "address 10.96.0.99"}


@pytest.mark.parametrize("name", RULES)
def test_a_change_of_mode_changes_no_rule(name: str) -> None:
    renderer = Renderer(name, RULES[name])
    before = renderer.targets(one_of_each())["n1"]
    after = renderer.targets(replace(one_of_each(), config=replace(CONFIG, mode="overlay")))["n1"]
    assert not difference(before, after) and before.base == after.base


@pytest.mark.parametrize("name", RULES)
def test_a_policy_that_becomes_local_replaces_the_rules(name: str) -> None:
    """The piece moves from those of all nodes to the node's own: one change, not an addition and a removal."""
    renderer = Renderer(name, RULES[name])
    plain = port("plain", "10.96.0.20", "10.244.0.2:8080", "10.244.1.2:8080")
    before = renderer.targets(state(plain))["n2"]
    after = renderer.targets(state(replace(plain, internal_local=True)))["n2"]
    change = difference(before, after)[plain.key]
    assert change.old is not None and change.new is not None
    back = difference(after, renderer.targets(state(plain))["n2"])[plain.key]
    assert (back.old, back.new) == (change.new, change.old)


def test_probabilities_give_each_endpoint_the_same_share() -> None:
    for count in (1, 2, 3, 7, 9, 16, 40):
        hosts = [f"10.244.1.{host}:80" for host in range(2, 2 + count)]
        target = _target("iptables", state(port("web", "10.96.0.20", *hosts)))
        rules = next(rules for (_, chain), rules in next(target.pieces()).chains.items() if "SVC" in chain)
        left, shares = 1.0, []
        for rule in rules[1:]:  # the first is about masquerading
            words = rule.split()
            probability = float(words[words.index("--probability") + 1]) if "--probability" in words else 1.0
            shares.append(left * probability)
            left *= 1 - probability
        assert left == 0 and shares == pytest.approx([1 / count] * count, rel=1e-6)


def test_names_are_those_of_kube_proxy() -> None:
    """``KUBE-SVC-`` of ns1/svc1:p80 on TCP, as kube-proxy's own tests have it."""
    target = _target(
        "iptables", state(replace(port("svc1", "10.96.0.20", "10.180.0.1:80"), namespace="ns1", port_name="p80"))
    )
    names = {chain for _, chain in next(target.pieces()).chains}
    assert names == {"KUBE-SVC-XPGD46QRK7WJZT7O", "KUBE-SEP-SXIVWICOYRO3J4NJ"}


def test_ipvs_schedulers_and_persistence() -> None:
    sticky = replace(port("web", "10.96.0.20", "10.244.1.2:80"), affinity_timeout_s=30)
    for scheduler in ("rr", "lc", "sh"):
        target = Renderer("ipvs", IpvsRules(scheduler)).targets(state(sticky))["n1"]
        servers = [server for piece in target.pieces() for server in piece.virtual.values()]
        assert [server.options for server in servers] == [f"-s {scheduler} -p 30"]


def test_ipvs_sends_outsiders_nowhere_when_no_endpoint_is_here() -> None:
    away = replace(port("web", "10.96.0.20", "10.244.1.2:80"), node_port=30001, external_local=True)
    here = _target("ipvs", state(away), "n2").own[away.key]
    elsewhere = _target("ipvs", state(away), "n1").own[away.key]
    assert "KUBE-NOT-HERE" not in here.members and "KUBE-EXTERNAL-LOCAL" in here.members
    assert "192.168.1.11,tcp:30001" in elsewhere.members["KUBE-NOT-HERE"]


def test_unusable_endpoints_have_no_rules() -> None:
    ending = endpoint("10.244.1.2:80", ready=False, serving=True, terminating=True)
    web = replace(port("web", "10.96.0.20", "10.244.1.3:80"), endpoints=(ending, endpoint("10.244.1.3:80")))
    for name in RULES:
        target = _target(name, state(web))
        text = golden_text(RULES[name].install(target.base, target.pieces()))
        assert "10.244.1.3" in text and "10.244.1.2:" not in text and "10.244.1.2/" not in text


def test_another_affinity_timeout_exchanges_the_sets_that_rules_refer_to() -> None:
    sticky = replace(one_of_each().service_ports[-1], affinity_timeout_s=10)
    assert sticky.name == "sticky"
    rules, renderer, kernel = RULES["nftables"], Renderer("nftables", RULES["nftables"]), Nftables()
    before = renderer.targets(state(sticky))["n1"]
    kernel.run(rules.install(before.base, before.pieces()))
    after = renderer.targets(state(replace(sticky, affinity_timeout_s=20)))["n1"]
    kernel.run(rules.update(after.base, difference(before, after).values(), after.pieces))
    assert all("timeout 20s" in text for name, text in kernel.sets.items() if name.startswith("affinity"))
