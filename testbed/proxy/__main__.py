"""Start the proxies of all nodes: ``python -m testbed.proxy --api http://127.0.0.1:8001``.

Prints ``listening`` when it follows the cluster. Ends only with an error or by a signal; all rules stay in place then,
and the next process takes them over by writing them anew.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from testbed.cluster.client import ApiClient
from testbed.proxy.app import ProxyApp
from testbed.proxy.ipvs import SCHEDULERS

_NOTES = Path("/run/testbed-proxy")  # the box's own /run


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbed.proxy", description="The nodes' kernel Service proxies.")
    parser.add_argument("--api", required=True, metavar="URL", help="cluster API, for example http://127.0.0.1:8001")
    parser.add_argument("--ipvs-scheduler", choices=SCHEDULERS, default="rr", help="how proxy: ipvs balances (rr)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    app = ProxyApp(ApiClient(arguments.api), _NOTES, arguments.ipvs_scheduler)
    print("listening", flush=True)
    app.run()


if __name__ == "__main__":
    main()
