"""The program of the image of the Ingress controller: waits for its configuration and becomes nginx.

Runs by itself with the standard library only. The testbed writes the configuration, and keeps it and the nginx that
runs by it true to the cluster's Ingresses. Arguments are those of ingress-nginx's own program, and not needed here.
"""

import hashlib
import os
import sys
import time
from pathlib import Path


def main() -> None:
    try:
        namespace, pod = os.environ["POD_NAMESPACE"], os.environ["POD_NAME"]
    except KeyError as error:
        sys.exit(f"ingress-nginx: the environment needs {error}, by the downward API (fieldRef: metadata.name)")
    # As testbed.network.ingress.control.controller_directory.
    directory = Path("/run/ingress-nginx", hashlib.sha256(f"{namespace}/{pod}".encode()).hexdigest()[:16])
    (directory / "control").unlink(missing_ok=True)  # of an nginx that was killed
    configuration = directory / "nginx.conf"
    while not configuration.exists():
        time.sleep(0.01)
    os.execvp("nginx", ["nginx", "-e", "stderr", "-c", str(configuration)])


if __name__ == "__main__":
    main()
