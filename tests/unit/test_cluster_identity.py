"""How identifiers are made: pinned, because flows, plans and recorded results carry them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import given
from hypothesis import strategies as st

from testbed.cluster import identity

NAMESPACES = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)
NAMES = st.from_regex(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?", fullmatch=True)


def test_pinned():
    assert identity.interface_name("default", "web-0") == "web-0-53842af"
    assert identity.pod_namespace("default", "web-0") == "p_default_web-0"
    assert identity.switch_namespace("n1") == "s-n1"
    assert identity.gateway_address(IPv4Network("10.244.3.0/24")) == IPv4Address("10.244.3.1")
    assert identity.address_mac(IPv4Address("10.244.3.1")) == "0a:58:0a:f4:03:01"
    assert identity.vtep_mac(258) == "0e:01:00:00:01:02"
    assert identity.cookie("pod", "default/web-0") == 8171570633697891766


def test_cookies_tell_apart_where_the_parts_are_divided():
    assert identity.cookie("a", "bc") != identity.cookie("ab", "c")


@given(st.tuples(NAMESPACES, NAMES), st.tuples(NAMESPACES, NAMES))
def test_names_fit_and_differ(one, other):
    assert len(identity.pod_namespace(*one)) <= 255
    assert len(identity.interface_name(*one)) <= 15
    assert (identity.pod_namespace(*one) == identity.pod_namespace(*other)) == (one == other)


def test_the_longest_names_still_differ():
    long = "x" * 252
    names = {identity.pod_namespace("y" * 63, long + end) for end in "ab"}
    assert sorted(map(len, names)) == [255, 255]
