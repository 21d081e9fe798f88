"""The program of the image cluster-dns: writes a configuration for Knot DNS and becomes its server.

Runs by itself with the standard library only. The server starts with empty zones; the testbed fills them, and keeps
them true, by its control socket.
"""

import os
import socket
import sys
from pathlib import Path

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
log:
  - target: stderr
    server: info
    # Zones that are not filled yet are no error; what the testbed asks in vain, it says itself.
    control: critical
    zone: critical
database:
    storage: "{directory}"
template:
  - id: default
    storage: "{directory}"
    # The testbed fills these zones by the control socket. Until then the server knows nothing of them.
    zonefile-load: none
    zonefile-sync: -1
    journal-content: none
zone:
  - domain: cluster.local.
  - domain: in-addr.arpa.
  - domain: ip6.arpa.
  # The root stands for all the rest of the world, which does not exist here: names outside the cluster are answered
  # with NXDOMAIN at once, where a forwarding server without a way out would let every client wait.
  - domain: .
    file: root.zone
    zonefile-load: whole
"""
ROOT = """\
. 5 SOA kube-dns.kube-system.svc.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5
. 5 NS kube-dns.kube-system.svc.cluster.local.
"""


def main() -> None:
    # All name servers share this folder with the testbed.
    directory = Path("/run/cluster-dns", socket.gethostname())
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "root.zone").write_text(ROOT)
    configuration = directory / "knot.conf"
    configuration.write_text(CONFIGURATION.format(directory=directory))
    # One that was killed leaves its process id there: 1, in the container's own namespace, as its successor's.
    (directory / "knot.pid").unlink(missing_ok=True)
    os.execvp("knotd", ["knotd", "-c", str(configuration), *sys.argv[1:]])


if __name__ == "__main__":
    main()
