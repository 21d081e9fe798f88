"""Route netlink in batches: many requests in one send, so that a pod costs a system call and not a process.

Only what the builder writes is here: links, addresses, routes, rules, neighbours, forwarding entries. Message layout:
rtnetlink(7), linux/if_link.h, linux/rtnetlink.h, linux/fib_rules.h, linux/neighbour.h.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_NLMSG_ERROR = 2
_REQUEST, _ACK, _EXCL, _CREATE, _REPLACE, _APPEND = 0x1, 0x4, 0x200, 0x400, 0x100, 0x800
_RTM_NEWLINK, _RTM_DELLINK, _RTM_SETLINK = 16, 17, 19
_RTM_NEWADDR = 20
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_RTM_NEWNEIGH = 28
_RTM_NEWRULE, _RTM_DELRULE = 32, 33

_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 10, 18, 28
_IFLA_GROUP = 27
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_AF_SPEC, _IFLA_INET6_ADDR_GEN_MODE, _IN6_ADDR_GEN_MODE_NONE = 26, 8, 1
_VETH_INFO_PEER = 1
_VXLAN_ID, _VXLAN_TTL, _VXLAN_LEARNING, _VXLAN_LOCAL, _VXLAN_PORT = 1, 5, 7, 4, 15
_BR_STP, _BR_MCAST_SNOOPING, _BR_FORWARD_DELAY = 5, 23, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_PREFSRC = 1, 4, 5, 9, 7
_NDA_DST, _NDA_LLADDR = 1, 2
_FRA_DST, _FRA_IIFNAME, _FRA_PRIORITY, _FRA_TABLE, _FRA_IP_PROTO, _FRA_DPORT_RANGE = 1, 3, 6, 15, 22, 24
_FR_ACT_TO_TBL = 1

_IFF_UP = 0x1
LOCAL_TABLE, MAIN_TABLE = 255, 254
_RTPROT_STATIC, _RT_SCOPE_UNIVERSE, _RT_SCOPE_LINK, _RTN_UNICAST = 4, 0, 253, 1
_RTNH_F_ONLINK = 4
_NUD_PERMANENT, _NTF_SELF = 0x80, 0x02

_SIOCETHTOOL, _ETHTOOL_STXCSUM, _ETHTOOL_GTXCSUM = 0x8946, 0x17, 0x16
_SOL_NETLINK, _NETLINK_EXT_ACK = 270, 11
_NLMSGERR_ATTR_MSG = 1
_NLM_F_ACK_TLVS, _NLM_F_CAPPED = 0x200, 0x100

Address = IPv4Address | IPv6Address
Prefix = IPv4Network | IPv6Network


class NetlinkError(OSError):
    """The kernel refused a request; the text names the request."""


class Request:
    """One netlink message: its type, flags and body, and what it is for (used in errors)."""

    __slots__ = ("body", "flags", "kind", "what")

    def __init__(self, kind: int, flags: int, body: bytes, what: str) -> None:
        self.kind, self.flags, self.body, self.what = kind, flags, body, what


def _attribute(kind: int, payload: bytes) -> bytes:
    length = 4 + len(payload)
    return struct.pack("HH", length, kind) + payload + b"\0" * (-length % 4)


def _u32(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("I", value))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def _family(address: Address | Prefix) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6


def _link_header(index: int = 0, up: bool = False) -> bytes:
    flags = _IFF_UP if up else 0
    return struct.pack("BxHiII", socket.AF_UNSPEC, 0, index, flags, flags)


def _link_attributes(name: str, mac: str | None, mtu_bytes: int | None, namespace_fd: int | None) -> bytes:
    attributes = _text(_IFLA_IFNAME, name)
    if mac:
        attributes += _attribute(_IFLA_ADDRESS, _mac(mac))
    if mtu_bytes:
        attributes += _u32(_IFLA_MTU, mtu_bytes)
    if namespace_fd is not None:
        attributes += _u32(_IFLA_NET_NS_FD, namespace_fd)
    return attributes


def _new_link(header: bytes, attributes: bytes, kind: str, data: bytes, what: str) -> Request:
    info = _text(_IFLA_INFO_KIND, kind)
    if data:
        info += _attribute(_IFLA_INFO_DATA, data)
    body = header + attributes + _attribute(_IFLA_LINKINFO, info)
    return Request(_RTM_NEWLINK, _REQUEST | _ACK | _CREATE | _EXCL, body, what)


def veth(
    name: str,
    peer: str,
    *,
    peer_namespace_fd: int | None = None,
    mac: str | None = None,
    mtu_bytes: int | None = None,
    peer_mtu_bytes: int | None = None,
    peer_mac: str | None = None,
) -> Request:
    """A veth pair, both ends still down: ``name`` here, ``peer`` in the namespace of ``peer_namespace_fd``."""
    other = _link_header() + _link_attributes(peer, peer_mac, peer_mtu_bytes, peer_namespace_fd)
    return _new_link(
        _link_header(),
        _link_attributes(name, mac, mtu_bytes, None),
        "veth",
        _attribute(_VETH_INFO_PEER, other),
        f"veth {name} with peer {peer}",
    )


def bridge(name: str) -> Request:
    """A kernel bridge without spanning tree and without multicast snooping, up."""
    data = _u32(_BR_FORWARD_DELAY, 0) + _u32(_BR_STP, 0) + _attribute(_BR_MCAST_SNOOPING, b"\0")
    return _new_link(_link_header(up=True), _link_attributes(name, None, None, None), "bridge", data, f"bridge {name}")


def vxlan(
    name: str, *, vni: int, local: Address, udp_port: int, mac: str, mtu_bytes: int, namespace_fd: int
) -> Request:
    """A VXLAN device (RFC 7348) that learns nothing, placed in another namespace.

    Its UDP socket belongs to the namespace the request is sent from, so the encapsulated packets take that namespace's
    routes while the device itself stands in the other.
    """
    data = (
        _u32(_VXLAN_ID, vni)
        + _attribute(_VXLAN_LOCAL, local.packed)
        + _attribute(_VXLAN_TTL, bytes([64]))
        + _attribute(_VXLAN_LEARNING, b"\0")
        + _attribute(_VXLAN_PORT, struct.pack(">H", udp_port))
    )
    attributes = _link_attributes(name, mac, mtu_bytes, namespace_fd)
    return _new_link(_link_header(), attributes, "vxlan", data, f"vxlan {name} vni {vni} local {local}")


def link_up(index: int) -> Request:
    return Request(_RTM_NEWLINK, _REQUEST | _ACK, _link_header(index, up=True), f"link {index} up")


def named_link_up(name: str) -> Request:
    return Request(_RTM_NEWLINK, _REQUEST | _ACK, _link_header(up=True) + _text(_IFLA_IFNAME, name), f"link {name} up")


def no_ipv6_address(name: str) -> Request:
    """Keep a link, still down, from giving itself an IPv6 address and announcing it (``addrgenmode none``).

    The sysctl ``disable_ipv6`` would do too, but each look-up below /proc/sys/net passes the entries of all network
    namespaces: measured 0.09 ms with 250 of them and 0.66 ms with 1,000.
    """
    mode = _attribute(_IFLA_INET6_ADDR_GEN_MODE, bytes([_IN6_ADDR_GEN_MODE_NONE]))
    specific = _attribute(_IFLA_AF_SPEC, _attribute(socket.AF_INET6, mode))
    return Request(
        _RTM_SETLINK, _REQUEST | _ACK, _link_header() + _text(_IFLA_IFNAME, name) + specific, f"{name}: IPv6"
    )


def link_mtu(index: int, mtu_bytes: int) -> Request:
    return Request(_RTM_SETLINK, _REQUEST | _ACK, _link_header(index) + _u32(_IFLA_MTU, mtu_bytes), f"mtu {mtu_bytes}")


def link_master(index: int, master: int) -> Request:
    """Make a link a port of a bridge."""
    return Request(_RTM_SETLINK, _REQUEST | _ACK, _link_header(index) + _u32(_IFLA_MASTER, master), "bridge port")


def link_group(name: str, group: int) -> Request:
    """Put a link into a group, all of which can be removed at once."""
    header = _link_header() + _text(_IFLA_IFNAME, name)
    return Request(_RTM_SETLINK, _REQUEST | _ACK, header + _u32(_IFLA_GROUP, group), f"{name}: group {group}")


def group_delete(group: int) -> Request:
    """Remove all links of a group: the kernel then waits once for all that may still use one, not once for each."""
    return Request(_RTM_DELLINK, _REQUEST | _ACK, _link_header() + _u32(_IFLA_GROUP, group), f"delete group {group}")


def link_delete(index: int) -> Request:
    return Request(_RTM_DELLINK, _REQUEST | _ACK, _link_header(index), f"delete link {index}")


def address(index: int, value: Address, prefix_length: int) -> Request:
    header = struct.pack("BBBBi", _family(value), prefix_length, 0, 0, index)
    body = header + _attribute(_IFA_LOCAL, value.packed) + _attribute(_IFA_ADDRESS, value.packed)
    return Request(_RTM_NEWADDR, _REQUEST | _ACK | _CREATE | _EXCL, body, f"address {value}/{prefix_length}")


def route(
    destination: Prefix,
    next_hops: Sequence[tuple[Address | None, int]],
    *,
    onlink: bool = False,
    delete: bool = False,
    table: int = MAIN_TABLE,
) -> Request:
    """A route; ``next_hops`` are (gateway or None, interface index), several of them share the traffic (ECMP)."""
    scope = _RT_SCOPE_LINK if next_hops and next_hops[0][0] is None else _RT_SCOPE_UNIVERSE
    flags = _RTNH_F_ONLINK if onlink else 0
    body = struct.pack(
        "BBBBBBBBI",
        _family(destination),
        destination.prefixlen,
        0,
        0,
        table,
        _RTPROT_STATIC,
        scope,
        _RTN_UNICAST,
        flags if len(next_hops) == 1 else 0,
    ) + _attribute(_RTA_DST, destination.network_address.packed)
    if len(next_hops) == 1:
        via, index = next_hops[0]
        if via is not None:
            body += _attribute(_RTA_GATEWAY, via.packed)
        body += _u32(_RTA_OIF, index)
    else:
        hops = b""
        for via, index in next_hops:
            gateway = _attribute(_RTA_GATEWAY, via.packed) if via is not None else b""
            hops += struct.pack("HBBi", 8 + len(gateway), flags, 0, index) + gateway
        body += _attribute(_RTA_MULTIPATH, hops)
    if delete:
        return Request(_RTM_DELROUTE, _REQUEST | _ACK, body, f"delete route {destination}")
    return Request(_RTM_NEWROUTE, _REQUEST | _ACK | _CREATE | _REPLACE, body, f"route {destination}")


def rule(
    priority: int,
    table: int,
    *,
    destination: Prefix | None = None,
    iif: str | None = None,
    ip_proto: int | None = None,
    dport_range: range | None = None,
    delete: bool = False,
) -> Request:
    """An IPv4 policy rule: packets that meet all conditions are looked up in ``table`` (``ip-rule(8)``)."""
    prefix_length = destination.prefixlen if destination is not None else 0
    body = struct.pack("BBBBBBBBI", socket.AF_INET, prefix_length, 0, 0, table, 0, 0, _FR_ACT_TO_TBL, 0)
    body += _u32(_FRA_PRIORITY, priority) + _u32(_FRA_TABLE, table)
    if destination is not None:
        body += _attribute(_FRA_DST, destination.network_address.packed)
    if iif is not None:
        body += _text(_FRA_IIFNAME, iif)
    if ip_proto is not None:
        body += _attribute(_FRA_IP_PROTO, bytes([ip_proto]))
    if dport_range is not None:
        body += _attribute(_FRA_DPORT_RANGE, struct.pack("HH", dport_range[0], dport_range[-1]))
    if delete:
        return Request(_RTM_DELRULE, _REQUEST | _ACK, body, f"delete rule {priority}")
    return Request(_RTM_NEWRULE, _REQUEST | _ACK | _CREATE | _EXCL, body, f"rule {priority}")


def neighbour(index: int, value: Address, mac: str) -> Request:
    """A permanent entry of the ARP (or neighbour discovery) table."""
    header = struct.pack("BxHiHBB", _family(value), 0, index, _NUD_PERMANENT, 0, 0)
    body = header + _attribute(_NDA_DST, value.packed) + _attribute(_NDA_LLADDR, _mac(mac))
    return Request(_RTM_NEWNEIGH, _REQUEST | _ACK | _CREATE | _REPLACE, body, f"neighbour {value}")


def forwarding_entry(index: int, mac: str, remote: Address) -> Request:
    """A VXLAN device's entry: frames to ``mac`` are sent to the tunnel end ``remote``."""
    header = struct.pack("BxHiHBB", socket.AF_BRIDGE, 0, index, _NUD_PERMANENT, _NTF_SELF, 0)
    body = header + _attribute(_NDA_LLADDR, _mac(mac)) + _attribute(_NDA_DST, remote.packed)
    return Request(_RTM_NEWNEIGH, _REQUEST | _ACK | _CREATE | _REPLACE, body, f"forwarding entry {mac} -> {remote}")


class Netlink:
    """A route netlink socket in the network namespace the calling thread is in when it is made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    # A batch larger than the socket's buffers would be refused (ENOBUFS on the acknowledgements).
    _BATCH = 100

    def request(self, requests: Sequence[Request], ignore: tuple[int, ...] = ()) -> None:
        """Carry out requests in order, in as few system calls as possible.

        Raises :class:`NetlinkError` naming the first request that the kernel refused with an error not in ``ignore``.
        """
        for start in range(0, len(requests), self._BATCH):
            self._batch(requests[start : start + self._BATCH], ignore)

    def _batch(self, requests: Sequence[Request], ignore: tuple[int, ...]) -> None:
        first = self._sequence + 1
        parts = []
        for request in requests:
            self._sequence += 1
            parts.append(struct.pack("IHHII", 16 + len(request.body), request.kind, request.flags, self._sequence, 0))
            parts.append(request.body)
        self._socket.send(b"".join(parts))
        failure: NetlinkError | None = None
        left = len(requests)
        while left:
            data = self._socket.recv(65536)
            offset = 0
            while offset + 16 <= len(data):
                length, kind, flags, sequence, _ = struct.unpack_from("IHHII", data, offset)
                if kind == _NLMSG_ERROR and sequence >= first:
                    left -= 1
                    (code,) = struct.unpack_from("i", data, offset + 16)
                    if code and -code not in ignore and failure is None:
                        what = requests[sequence - first].what
                        detail = _extended(data[offset : offset + length], flags)
                        failure = NetlinkError(-code, f"{what}: {os.strerror(-code)}{detail}")
                offset += (length + 3) & ~3
        if failure is not None:
            raise failure

    @staticmethod
    def index(interface: str) -> int:
        """The index of an interface in the calling thread's network namespace."""
        return socket.if_nametoindex(interface)


def _extended(message: bytes, flags: int) -> str:
    """The kernel's own words about a refused request (NETLINK_EXT_ACK), where it gave some."""
    if not flags & _NLM_F_ACK_TLVS:
        return ""
    (original,) = struct.unpack_from("I", message, 20)
    offset = 20 + (16 if flags & _NLM_F_CAPPED else (original + 3) & ~3)
    while offset + 4 <= len(message):
        length, kind = struct.unpack_from("HH", message, offset)
        if length < 4:
            break
        if kind == _NLMSGERR_ATTR_MSG:
            return f" ({message[offset + 4 : offset + length].rstrip(bytes(1)).decode(errors='replace')})"
        offset += (length + 3) & ~3
    return ""


def disable_transmit_checksum(control: socket.socket, interface: str) -> None:
    """Make an interface compute its checksums itself (what ``ethtool -K <if> tx off`` does), in this namespace.

    Frames handed to a userspace datapath leave the kernel, and nobody would fill in a checksum left to the hardware.
    """
    _ethtool(control, interface, struct.pack("II", _ETHTOOL_STXCSUM, 0))


def transmit_checksum(control: socket.socket, interface: str) -> bool:
    """Whether an interface leaves transmit checksums to (emulated) hardware."""
    return bool(struct.unpack("II", _ethtool(control, interface, struct.pack("II", _ETHTOOL_GTXCSUM, 0)))[1])


def _ethtool(control: socket.socket, interface: str, value: bytes) -> bytes:
    buffer = array.array("B", value)
    pointer, _ = buffer.buffer_info()
    request = struct.pack("16sP", interface.encode(), pointer)
    try:
        fcntl.ioctl(control.fileno(), _SIOCETHTOOL, request)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    return buffer.tobytes()
