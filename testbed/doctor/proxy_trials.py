"""Whether this kernel can do what the kernel proxies' rules say: a rule of each sort, tried in a throwaway namespace.

The rules are those of :mod:`testbed.proxy`; a kernel lacks a match or a target rather than the whole of netfilter.
"""

from __future__ import annotations

from collections.abc import Mapping

_IPTABLES = (
    "*nat",
    ":TRIAL - [0:0]",
    "-A PREROUTING -m comment --comment trial ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j TRIAL",
    "-A TRIAL -m recent --name TRIAL --rcheck --seconds 10 --reap -j RETURN",
    "-A TRIAL -m statistic --mode random --probability 0.5 -j MARK --or-mark 0x4000",
    "-A TRIAL -m recent --name TRIAL --set -p tcp -m tcp -j DNAT --to-destination 198.18.0.1:80",
    "-A TRIAL -p udp -m udp --dport 53 -j RETURN",
    "-A TRIAL -p sctp -m sctp --dport 53 -j RETURN",
    "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully",
    "COMMIT",
    "*filter",
    "-A FORWARD -m conntrack --ctstate NEW -p tcp -j REJECT --reject-with tcp-reset",
    "-A FORWARD -j REJECT --reject-with icmp-port-unreachable",
    "COMMIT",
)
_NFTABLES = (
    "add table ip trial",
    "add map ip trial services { type ipv4_addr . inet_proto . inet_service : verdict ; }",
    "add map ip trial choice { typeof numgen random mod 2 : verdict ; }",
    "add set ip trial clients { type ipv4_addr ; flags dynamic,timeout ; timeout 10s ; }",
    "add chain ip trial refuse",
    "add rule ip trial refuse meta l4proto tcp reject with tcp reset",
    "add rule ip trial refuse reject with icmp port-unreachable",
    "add chain ip trial before { type nat hook prerouting priority -100 ; }",
    "add rule ip trial before fib saddr type local meta mark set meta mark or 0x4000",
    "add rule ip trial before update @clients { ip saddr }",
    "add rule ip trial before ip daddr . meta l4proto . th dport vmap @services",
    "add rule ip trial before numgen random mod 2 vmap @choice",
    "add rule ip trial before ct state new meta l4proto tcp dnat to 198.18.0.1:80",
    "add chain ip trial after { type nat hook postrouting priority 100 ; }",
    "add rule ip trial after meta mark and 0x4000 == 0x4000 masquerade fully-random",
)
_IPVS_MARKS = (
    "*filter",
    "-A INPUT -m set --match-set trial dst,dst -j REJECT",
    "COMMIT",
)


def _fed(lines: tuple[str, ...], program: str) -> str:
    return "printf '%s\\n' " + " ".join(f"'{line}'" for line in lines) + f" | {program}"


# Linux shows an ordinary user's namespaces no settings of IPVS, and without this one nothing can be masqueraded.
_CONNTRACK_SETTING = "/proc/sys/net/ipv4/vs/conntrack"

# What they say when they work is shown: iptables names its backend.
PROXY_TRIALS: Mapping[str, str] = {
    "iptables": f"{_fed(_IPTABLES, 'iptables-restore --noflush')} && iptables --version",
    "nftables": _fed(_NFTABLES, "nft -f -"),
    "ipvs": (
        "ipvsadm -A -t 198.18.0.1:80 -s rr && ip link add trial-ipvs type dummy && "
        f"{{ [ -e {_CONNTRACK_SETTING} ] || {{ echo {_CONNTRACK_SETTING} is not there; false; }}; }} && "
        f"ipset create trial hash:ip,port && {_fed(_IPVS_MARKS, 'iptables-restore --noflush')}"
    ),
}
