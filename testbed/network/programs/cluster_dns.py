"""The program of the image cluster-dns: writes a configuration for Knot DNS and becomes its server.

Runs by itself with the standard library only. The server starts with empty zones; the testbed fills them, and keeps
them true, by RFC 2136 updates over the pod's loopback interface.
"""

import os
import socket
import sys
from pathlib import Path

# The root stands for all the rest of the world, which does not exist here: names outside the cluster are answered with
# NXDOMAIN at once, where a forwarding server without a way out would let every client wait.
ZONES = ("cluster.local.", "in-addr.arpa.", "ip6.arpa.", ".")
PRIMARY = "kube-dns.kube-system.svc.cluster.local."
CONTACT = "hostmaster.cluster.local."
# Serial, refresh, retry, expire (no secondary servers ask), time that an absence may be remembered; all in seconds.
SOA = f"{PRIMARY} {CONTACT} 1 7200 1800 86400 5"
TTL_S = 5

CONFIGURATION = """\
server:
    listen: 0.0.0.0@53
    rundir: "{directory}"
    # Otherwise one of each for every processor, and ten for TCP.
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
    # The addresses of a headless Service in turn, as CoreDNS gives them.
    answer-rotation: on
    # The testbed holds one connection: that it ends is the sign that the server has.
    tcp-idle-timeout: 86400
log:
  - target: stderr
    server: info
    control: info
    zone: error
database:
    storage: "{directory}"
acl:
  - id: testbed
    address: 127.0.0.1
    action: [update, transfer]
template:
  - id: default
    storage: "{directory}"
    acl: testbed
    # All is in memory. A server that starts again is filled again.
    journal-content: none
    zonefile-load: whole
    zonefile-sync: -1
zone:
{zones}
"""


def main() -> None:
    # Programs of different pods see the same /run.
    directory = Path("/run/cluster-dns", socket.gethostname())
    directory.mkdir(parents=True, exist_ok=True)
    zones = []
    for number, zone in enumerate(ZONES):
        file = directory / f"zone{number}"
        file.write_text(f"{zone} {TTL_S} SOA {SOA}\n{zone} {TTL_S} NS {PRIMARY}\n")
        zones.append(f"  - domain: {zone}\n    file: {file}\n")
    configuration = directory / "knot.conf"
    configuration.write_text(CONFIGURATION.format(directory=directory, zones="".join(zones)))
    os.execvp("knotd", ["knotd", "-c", str(configuration), *sys.argv[1:]])


if __name__ == "__main__":
    main()
