"""Inside its box: a cluster that is kept running for people, and what it tells and answers meanwhile."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from testbed.cluster.kinds import EVENT, NODE, POD
from testbed.cluster.objects import JsonObject, pod_key
from testbed.cluster.status import Expired
from testbed.cluster.store import Store
from testbed.doctor.facts import DatapathWish
from testbed.living_picture import LivingPicture
from testbed.network.builder import built, choose_datapath
from testbed.network.control import Control, Refused
from testbed.network.enter import API_URL_FILE
from testbed.network.hosts import ClusterCLI
from testbed.network.kubeconfig import Door
from testbed.network.plan import Plan
from testbed.network.supervisor import supervised
from testbed.spec.endpoints import EndpointRef, parse_endpoint
from testbed.spec.nearest import suggestion
from testbed.views.cluster import network_line, nodes_table, outside_table, pods_table, services_table

if TYPE_CHECKING:
    from testbed.network.testbed import Testbed
    from testbed.progress import Progress

_SHOWN_SERVICES = 30


@dataclass(frozen=True)
class Box:
    """What a cluster gets from outside its box: its name and files there, the way to its API, the socket of its
    questions; ``known`` has it made known to other commands."""

    name: str
    kubeconfig: Path
    datapath: DatapathWish
    prompt: bool
    door: Door
    questions: socket.socket
    known: Callable[[], None]


def serve(plan: Plan, box: Box, progress: Progress) -> int:
    """Build the cluster, make it known, and keep it until told to end; an interrupt while building is the caller's."""
    with built(plan, choose_datapath(box.datapath), progress, box.door) as testbed, ExitStack() as stack:
        API_URL_FILE.write_text(testbed.api_url)
        stack.enter_context(supervised(testbed))
        stack.enter_context(Control(box.questions, _answers(testbed, box.door.page_url)))
        if testbed.api_for_people is not None:
            testbed.api_for_people.page = LivingPicture(box.name, testbed)
        box.known()
        sys.stdout.write(f"\n{overview(testbed)}\nPage: {box.door.page_url}\nKUBECONFIG={box.kubeconfig}\n")
        if box.prompt:
            _give_prompt(testbed)
        else:
            sys.stdout.write(_hint(box.name) + "\n")
            sys.stdout.flush()
            stack.enter_context(Narrator(testbed.store))
            _wait_for_the_end()
    return 0


def overview(testbed: Testbed) -> str:
    """What is there: mode and proxy; nodes, outside hosts, pods and Services with their addresses."""
    state = testbed.state
    tables = (
        network_line(state),
        nodes_table(state, testbed.fabric),
        outside_table(testbed.fabric),
        pods_table(state),
        services_table(state, most=_SHOWN_SERVICES),
    )
    return "\n".join(table for table in tables if table)


def _hint(name: str) -> str:
    return (
        "From another terminal: kubectl, with this KUBECONFIG; "
        f"testbed exec --name {name} POD|node/NODE|ext/HOST -- CMD. Ctrl-C ends it."
    )


def _give_prompt(testbed: Testbed) -> None:
    # Mininet's prompt takes every KeyboardInterrupt for itself, so the other signals have to end it differently.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit())
    try:
        ClusterCLI(testbed.net)
    except SystemExit:
        sys.stdout.write("\n")


def _wait_for_the_end() -> None:
    try:
        while True:
            signal.pause()
    except KeyboardInterrupt:
        sys.stdout.write("\n")


# -- answers to other commands --------------------------------------------------------------------------------------


def _answers(testbed: Testbed, page_url: str) -> dict[str, Callable[[Mapping[str, Any]], Mapping[str, Any]]]:
    return {
        "state": lambda _: {**_state(testbed), "page": page_url},
        "entrance": lambda question: _entrance(testbed, question),
    }


def _state(testbed: Testbed) -> dict[str, Any]:
    config = testbed.state.config
    return {
        "mode": config.mode,
        "proxy": config.proxy,
        "nodes": len(testbed.store.list(NODE).items),
        "pods": len(testbed.store.list(POD).items),
    }


def _entrance(testbed: Testbed, question: Mapping[str, Any]) -> dict[str, Any]:
    """The command line that brings a program to an endpoint, and the environment it gets there (None: its own)."""
    endpoint, container = parse_endpoint(question["endpoint"]), question["container"]
    place = testbed.places.get(endpoint)
    if place is None:
        others = [EndpointRef(kind, "", endpoint.name) for kind in ("node", "ext")]
        meant = [str(other) for other in others if endpoint.kind == "pod" and other in testbed.places]
        hint = f" (did you mean {meant[0]}?)" if meant else suggestion(str(endpoint), map(str, list(testbed.places)))
        if endpoint.kind == "ext" and not any(other.kind == "ext" for other in list(testbed.places)):
            hint = "; the topology's parameter ext says how many hosts there are outside the cluster: ext=1"
        raise Refused(f"there is no {endpoint}{hint}")
    if endpoint.kind != "pod":
        if container is not None:
            raise Refused(f"-c goes with the name of a pod, not with {endpoint}")
        return {"argv": place.command(()), "environment": None}
    pod = testbed.store.get(POD, endpoint.name, endpoint.namespace)
    names = [one["name"] for one in pod["spec"]["containers"]]
    name = names[0] if container is None else container
    if name not in names:
        raise Refused(f"{endpoint} has no container {name}; it has: {', '.join(names)}")
    key = pod_key(pod)
    if not testbed.containers.is_running(key, name):
        raise Refused(f"container {name} of {endpoint} does not run")
    command = testbed.containers.command(key, name, ())
    return {"argv": command, "environment": testbed.containers.environment(key, name)}


# -- what happens, as lines -------------------------------------------------------------------------------------


def event_line(event: JsonObject) -> str:
    """A Warning in one line: when, about what, its reason, its message, and how often it has been said."""
    involved, count = event["involvedObject"], event.get("count", 1)
    name = "/".join(filter(None, (involved.get("namespace"), involved["name"])))
    message = " ".join(event["message"].split())
    said = f"{involved['kind'].lower()} {name}: {event['reason']}: {message}" + (f" (x{count})" if count > 1 else "")
    return f"{event.get('lastTimestamp') or ''} {said}".lstrip()


class Narrator:
    """Writes the cluster's Warnings to standard output as they come: a container that exits, a component that dies.

    What is said again and again is written when it has been said 1, 2, 4, 8 ... times. A context manager.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._earlier, self._watch = store.follow((EVENT,))
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="narrator", daemon=True)

    def __enter__(self) -> Narrator:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        self._watch.close()
        self._thread.join()

    def _run(self) -> None:
        self._tell(self._earlier)
        while not self._stopping:
            try:
                events = self._watch.next()
            except Expired:  # more Events at once than the store keeps: the later ones are told
                self._watch.close()
                self._watch = self._store.watch(EVENT)
                continue
            self._tell(event.object for event in events if event.type != "DELETED")

    @staticmethod
    def _tell(events: Iterable[JsonObject]) -> None:
        for event in events:
            count = event.get("count", 1)
            if event["type"] == "Warning" and count & (count - 1) == 0:
                sys.stdout.write(event_line(event) + "\n")
        sys.stdout.flush()
