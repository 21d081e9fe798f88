"""The API as people outside the box reach it: a server that asks for the token, behind a front of its own process."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from testbed.apiserver.server import ApiServer
from testbed.network.api_process import ApiProcess
from testbed.spec.manifests import effect_warnings

if TYPE_CHECKING:
    from testbed.cluster.pod_access import PodAccess
    from testbed.cluster.store import Store
    from testbed.network.kubeconfig import Door

FRONT_LOG = Path("/run/api-front.log")
_LOOPBACK = "127.0.0.1"


class PeopleAccess:
    """Starts the front at once, because that takes a while; who connects before :meth:`open` waits for it.

    A context manager.
    """

    def __init__(self, door: Door, log: Path = FRONT_LOG) -> None:
        self._door = door
        self._listener = socket.create_server((_LOOPBACK, 0))
        self._server: ApiServer | None = None
        self._to_front, self._at_front = socket.socketpair()
        self._inside: socket.socket | None = None
        url = f"http://{_LOOPBACK}:{self._listener.getsockname()[1]}"
        # The front gets all under the numbers they have here, and so does each that is started in its place.
        descriptors = door.listener.fileno(), door.identity.fileno(), self._at_front.fileno()
        names = ("--listener", "--identity", "--more")
        arguments = [text for given in zip(names, map(str, descriptors), strict=True) for text in given]
        self.front = ApiProcess("the API's front", "testbed.network.api_front", url, log, arguments, descriptors)
        self.front.on_start = self._tell_front

    def __enter__(self) -> PeopleAccess:
        self.front.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.front.stop()
        self._door.close()
        if self._server is not None:
            self._server.stop()
        for opened in (self._listener, self._to_front, self._at_front, self._inside):
            if opened is not None:
                opened.close()

    def serve_inside(self, listener: socket.socket) -> None:
        """Serve at another socket, too, which belongs to this object from here on: inside the cluster."""
        self._inside = listener
        self._tell_front()

    def _tell_front(self) -> None:
        if self._inside is not None:
            socket.send_fds(self._to_front, [b"."], [self._inside.fileno()])

    def open(self, store: Store, pods: PodAccess | None = None) -> ApiServer:
        """Serve from here on. Raises RunError when the front has not started."""
        self._server = ApiServer(store, self._listener, token=self._door.token, pods=pods, advice=effect_warnings)
        self._server.start()
        self.front.wait_listening()
        return self._server
