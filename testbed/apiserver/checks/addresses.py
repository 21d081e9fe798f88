"""What may be an IP address, and how the API server says that something is not."""

from __future__ import annotations

import ipaddress

from testbed.apiserver.checks.words import invalid_value

_LOCAL_MULTICAST = (ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16"))
_NO_NETWORK = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def wrong_ip(text: str) -> str | None:
    """Why this is no IP address; None when it is."""
    return (
        None
        if parsed_address(text)
        else invalid_value(text, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")
    )


def wrong_network(text: str) -> str | None:
    """Why this is no range of addresses; None when it is."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return invalid_value(text, _NO_NETWORK)
    return None if "/" in text else invalid_value(text, _NO_NETWORK)


def wrong_endpoint(text: str) -> str | None:
    """Why this is no address that an endpoint may have; None when it is."""
    address = parsed_address(text)
    if address is None:
        return wrong_ip(text)
    reasons = (
        (address.is_unspecified, f"may not be unspecified ({address})"),
        (address.is_loopback, "may not be in the loopback range (127.0.0.0/8, ::1/128)"),
        (address.is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"),
        (
            any(address.version == net.version and address in net for net in _LOCAL_MULTICAST),
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        ),
    )
    return next((invalid_value(text, reason) for is_so, reason in reasons if is_so), None)


def parsed_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a text says; None when it says none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return None if "%" in text else address  # a zone is no part of an address in Kubernetes
