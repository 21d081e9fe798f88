"""Start the controller: ``python -m controllers.ryu_app --api http://127.0.0.1:8001 --listen 0.0.0.0:6653``.

An in-process launcher, because ryu-manager cannot start beside a current eventlet and os-ken 4 has no such command.
Prints ``listening`` when switches can connect. Ends only with an error or by a signal; all flows stay in place then.
"""

from __future__ import annotations

# First of all: it patches the standard library.
from controllers.ryu_app.framework import CONF, app_manager, hub, ofp_handler

# isort: split

import argparse
import logging

from controllers.ryu_app.app import PodNetworkApp
from controllers.ryu_app.switch import ECHO_INTERVAL_S, UNANSWERED_ECHOES
from testbed.errors import RunError

# Longest time for one write: the kernel's buffers fill while a switch works through a large bundle.
_SOCKET_TIMEOUT_S = 30.0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m controllers.ryu_app", description="The pod network's controller.")
    parser.add_argument("--api", required=True, metavar="URL", help="cluster API, for example http://127.0.0.1:8001")
    parser.add_argument("--listen", required=True, metavar="ADDRESS:PORT", help="where switches connect")
    arguments = parser.parse_args()
    address, _, tcp_port = arguments.listen.rpartition(":")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

    CONF([], project="testbed", default_config_files=[])
    for name, value in {
        "ofp_listen_host": address,
        "ofp_tcp_listen_port": int(tcp_port),
        "echo_request_interval": ECHO_INTERVAL_S,
        "maximum_unreplied_echo_requests": UNANSWERED_ECHOES,
        "socket_timeout": _SOCKET_TIMEOUT_S,
    }.items():
        CONF.set_override(name, value)

    manager = app_manager.AppManager.get_instance()
    openflow = manager.instantiate(ofp_handler.OFPHandler)
    app = manager.instantiate(PodNetworkApp, arguments.api)
    app.start()
    listener = openflow.start()
    hub.sleep(0)  # the listener begins to run: it listens, or it has failed
    if listener.dead:
        raise RunError(f"cannot listen on {arguments.listen}")
    print("listening", flush=True)
    app.run()


if __name__ == "__main__":
    main()
