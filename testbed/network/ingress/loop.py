"""The Ingress controllers' work: follows the objects, and brings every controller's nginx to what they say.

Endpoints go to a running nginx as they change. Rules and certificates are written, tried by ``nginx -t`` and taken over
by a reload; everything that has changed until then is one reload. A controller that starts, or starts again, finds its
files as they are to be.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from testbed.cluster.events import EventRecorder, EventType
from testbed.cluster.ingress.controllers import ingress_addresses, is_controller
from testbed.cluster.ingress.endpoints import endpoints_text
from testbed.cluster.ingress.nginx import Files, configuration
from testbed.cluster.ingress.translation import Sources, Translation, translate
from testbed.cluster.ingress.values import Backend, Key
from testbed.cluster.kinds import ENDPOINT_SLICE, INGRESS, INGRESS_CLASS, POD, SECRET, SERVICE, Kind
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import is_ready
from testbed.cluster.services import SERVICE_NAME_LABEL
from testbed.cluster.status import Expired, NotFound
from testbed.cluster.store import Event, Store, Watch
from testbed.errors import RunError
from testbed.network.ingress import control
from testbed.network.ingress.certificates import CertificateError, CertificateFiles
from testbed.network.ingress.nginx_pod import NginxPod, Wanted
from testbed.network.ingress.trial import configuration_error

LOG = logging.getLogger(__name__)

_KINDS = (INGRESS_CLASS, SECRET, SERVICE, ENDPOINT_SLICE, INGRESS, POD)
# Nothing tells when nginx has started or read its rules, so it is asked, at first often.
_FIRST_RETRY_S, _LAST_RETRY_S = 0.02, 0.5
_MOST_TRIED = 1000


class IngressLoop:
    """Follows a store in a thread of its own. Without a controller pod it writes nothing but Events."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._events = EventRecorder(store, "nginx-ingress-controller")
        self._certificates = CertificateFiles(control.DIRECTORY / "certificates")
        self._objects: dict[Kind, dict[Key, JsonObject]] = {}
        self._slices: dict[Key, dict[Key, JsonObject]] = defaultdict(dict)  # by Service
        self._translation = Translation()
        self._unreadable: frozenset[str] = frozenset()  # uids of Ingresses that nginx refuses
        self._version = ""  # of the configuration; "" while no controller has needed one
        self._named_certificates: set[Path] = set()  # of Secrets, in the configuration
        self._former: set[Backend] = set()  # what an nginx may still send requests to until it has read the rules
        self._told: set[tuple[str, str, str]] = set()  # what Events have said of the Ingresses as they are
        self._addressed: set[Key] = set()  # Ingresses that have an address from here
        self._tried: dict[str, str] = {}  # by version of a configuration, what nginx has against it
        self._lock = threading.Lock()  # guards what wait_settled reads
        self._synced = threading.Condition(self._lock)
        self._pods: dict[Key, NginxPod] = {}
        self._watch: Watch | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="ingress", daemon=True)

    def start(self) -> None:
        """Follow the store from here on."""
        with self._lock:
            self._begin()
        self._thread.start()

    def stop(self) -> None:
        """Follow it no longer; every nginx is left as it is."""
        self._stopped = True
        if self._watch is not None:
            self._watch.close()
            self._thread.join()

    def wait_settled(self, timeout_s: float) -> None:
        """Wait until every ready controller goes by the objects that the store has now.

        At once when there is none. Raises RunError after the timeout.
        """
        deadline = time.monotonic() + timeout_s
        while not self._following().wait_handled(max(0.0, deadline - time.monotonic())):
            # The watch is closed when it has fallen behind; then there is another one.
            if self._stopped or time.monotonic() >= deadline:
                raise RunError(f"the Ingress controllers have not followed within {timeout_s:g} s")
        with self._lock:
            if not self._synced.wait_for(lambda: not self._troubles(), max(0.0, deadline - time.monotonic())):
                raise RunError("Ingress controllers are not up to date: " + "; ".join(self._troubles()))

    def _following(self) -> Watch:
        with self._lock:
            if self._watch is None:
                raise RunError("the Ingress loop has not been started")
            return self._watch

    def _troubles(self) -> list[str]:
        ready = {_key(pod) for pod in self._ready_controllers()}
        return [f"{pod.title}: {pod.trouble}" for key, pod in self._pods.items() if pod.trouble and key in ready]

    # -- what there is ------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Read everything anew; the lock is held."""
        objects, self._watch = self._store.follow(_KINDS)
        self._objects = {kind: {} for kind in _KINDS}
        self._slices.clear()
        for wire in objects:
            self._take(Event("ADDED", wire))
        self._renew(rules=True)

    def _run(self) -> None:
        retry_s = _FIRST_RETRY_S
        while not self._stopped:
            watch = self._following()
            try:
                has_changed = self._step(watch, retry_s)
            except Exception:
                # One object's trouble must not end the care for all others.
                LOG.exception("the Ingress controllers could not be brought up to date")
                has_changed = False
            watch.handled()
            retry_s = _FIRST_RETRY_S if has_changed else min(2 * retry_s, _LAST_RETRY_S)

    def _step(self, watch: Watch, retry_s: float) -> bool:
        """Wait for changes, or so long if a controller is behind, and act on them; whether there were any."""
        try:
            events = watch.next(retry_s if self._is_behind() else None)
        except Expired:
            with self._lock, contextlib.closing(watch):
                self._begin()
            return True
        with self._lock:
            self._changed(events)
        return bool(events)

    def _is_behind(self) -> bool:
        return any(pod.trouble for pod in self._pods.values())

    def _take(self, event: Event) -> JsonObject | None:
        """Note a change, and return the object as it was before."""
        wire = event.object
        table = self._table_of(wire)
        key = _key(wire) if _kind(wire).namespaced else ("", object_name(wire))
        before = table.get(key)
        if event.type == "DELETED" or (wire["kind"] == POD.name and not is_controller(wire)):
            table.pop(key, None)
        else:
            table[key] = wire
        return before

    def _table_of(self, wire: JsonObject) -> dict[Key, JsonObject]:
        kind = _kind(wire)
        return self._slices[_service_of(wire)] if kind is ENDPOINT_SLICE else self._objects[kind]

    def _changed(self, events: Iterable[Event]) -> None:
        """Take in changes and act on those that concern an Ingress or a controller; the lock is held."""
        rules = others = False
        named = self._translation
        for event in events:
            wire = event.object
            before = self._take(event)
            match _kind(wire):
                case kind if kind is INGRESS:
                    rules |= before is None or event.type == "DELETED" or _says(before) != _says(wire)
                case kind if kind is INGRESS_CLASS:
                    rules = True
                case kind if kind is SECRET:
                    rules |= _key(wire) in named.secrets
                case kind if kind is SERVICE:
                    rules |= _key(wire) in named.services
                    others |= object_namespace(wire) in {key[0] for key in self._pods}
                case kind if kind is ENDPOINT_SLICE:
                    others |= _service_of(wire) in named.services
                case kind if kind is POD:
                    others |= is_controller(wire)
        if rules or others:
            self._renew(rules)
        else:
            self._attend()

    # -- what follows from it -----------------------------------------------------------------------------------

    def _renew(self, rules: bool) -> None:
        if rules:
            self._former |= self._translation.backends
            self._translation = translate(self._sources(), self._unreadable)
        self._choose_pods()
        if not self._pods and rules:
            self._version = ""  # there is no need to try them before there is a controller
        elif self._pods and (rules or not self._version):
            self._try()
        text = endpoints_text(self._translation.backends | self._former, lambda key: self._slices[key].values())
        wanted = Wanted(self._version, self._text, f"{hashlib.sha256(text.encode()).hexdigest()[:16]}\n{text}")
        for key, pod in self._pods.items() if self._version else ():
            if pod.write(wanted):
                message = "NGINX reload triggered due to a change in configuration"
                self._events.record(self._objects[POD][key], "Normal", "RELOAD", message)
        self._attend()
        self._publish()
        if rules:
            self._forget()

    def _forget(self) -> None:
        """What was told of Ingresses and pods that are no more, or are others now."""
        there = (*self._objects[INGRESS].values(), *self._objects[POD].values())
        now = {_edition(wire) for wire in there}
        self._told = {told for told in self._told if told[0] in now}

    def _try(self) -> None:
        """Let nginx read the rules; Ingresses that it cannot read are left out, and told so."""
        self._unreadable = frozenset()
        found = translate(self._sources())
        if self._trial_error(found):
            for ingress in found.served:
                others = frozenset(one["metadata"]["uid"] for one in found.served if one is not ingress)
                if error := self._trial_error(translate(self._sources(), others)):
                    self._unreadable |= {ingress["metadata"]["uid"]}
                    self._tell(ingress, "Warning", "InvalidIngress", f"nginx cannot read what it asks for: {error}")
            found = translate(self._sources(), self._unreadable)
            if error := self._trial_error(found):
                for key in self._pods:
                    self._tell(self._objects[POD][key], "Warning", "RELOAD", f"Error reloading NGINX: {error}")
                return
        self._translation = found
        self._named_certificates = {
            self._certificates.of_secret(server.certificate, self._objects[SECRET].get(server.certificate))
            for server in found.servers
            if server.certificate is not None
        }
        self._version = configuration(found.servers, self._files(control.DIRECTORY))[1]

    def _trial_error(self, found: Translation) -> str:
        directory = control.DIRECTORY / "trial"
        text, version = configuration(found.servers, self._files(directory))
        if version not in self._tried:
            if len(self._tried) >= _MOST_TRIED:
                self._tried.clear()
            self._tried[version] = configuration_error(directory, text)
        return self._tried[version]

    def _attend(self) -> None:
        for pod in self._pods.values() if self._version else ():
            if pod.trouble:
                pod.attend()
        if not self._is_behind():
            self._former.clear()
            if self._version:
                self._certificates.keep(self._named_certificates)
        self._synced.notify_all()

    def _choose_pods(self) -> None:
        """An nginx for every controller pod that has a node."""
        placed = {key: pod for key, pod in self._objects[POD].items() if pod["spec"].get("nodeName")}
        for key in self._pods.keys() - placed.keys():
            self._pods.pop(key).forget()
        for key, pod in placed.items():
            uid = str(pod["metadata"]["uid"])
            if key not in self._pods or self._pods[key].uid != uid:
                self._pods[key] = NginxPod("/".join(key), uid, control.controller_directory(*key))
            if "deletionTimestamp" in pod["metadata"]:
                self._pods[key].leave()

    def _ready_controllers(self) -> list[JsonObject]:
        pods = self._objects[POD].values()
        return [pod for pod in pods if is_ready(pod) and "deletionTimestamp" not in pod["metadata"]]

    def _text(self, directory: Path) -> str:
        return configuration(self._translation.servers, self._files(directory))[0]

    def _sources(self) -> Sources:
        return Sources(
            self._objects[INGRESS].values(),
            list(self._objects[INGRESS_CLASS].values()),
            self._objects[SERVICE].get,
            self._certificate_trouble,
        )

    def _certificate_trouble(self, key: Key) -> str:
        try:
            self._certificates.of_secret(key, self._objects[SECRET].get(key))
        except CertificateError as error:
            return str(error)
        return ""

    def _files(self, directory: Path) -> Files:
        def certificate(key: Key | None) -> str:
            if key is None:
                return str(self._certificates.own())
            return str(self._certificates.of_secret(key, self._objects[SECRET].get(key)))

        return Files(str(directory), str(control.LUA), certificate)

    # -- what people see of it ----------------------------------------------------------------------------------

    def _publish(self) -> None:
        """Addresses of the Ingresses that are served, and Events about what is wrong with them."""
        addresses = ingress_addresses(self._ready_controllers(), self._objects[SERVICE].values())
        served = {_key(ingress) for ingress in self._translation.served}
        for key in served | self._addressed:
            self._put_address(key, addresses if key in served else [])
        self._addressed = served
        for ingress in self._translation.served if self._pods else ():
            self._tell(ingress, "Normal", "Sync", "Scheduled for sync")
        for finding in self._translation.findings:
            self._tell(finding.ingress, "Warning", finding.reason, finding.message)

    def _put_address(self, key: Key, addresses: list[str]) -> None:
        ingress = self._objects[INGRESS].get(key)
        if ingress is None:
            return
        wanted = [{"ip": address} for address in addresses]
        status = (ingress.get("status") or {}).get("loadBalancer") or {}
        if (status.get("ingress") or []) != wanted:
            with contextlib.suppress(NotFound):
                self._store.patch(INGRESS, key[1], {"status": {"loadBalancer": {"ingress": wanted}}}, key[0])

    def _tell(self, ingress: JsonObject, event_type: EventType, reason: str, message: str) -> None:
        """Once for each Ingress as it is written now."""
        about = _edition(ingress), reason, message
        if about not in self._told:
            self._told.add(about)
            self._events.record(ingress, event_type, reason, message)


def _key(wire: JsonObject) -> Key:
    return object_namespace(wire), object_name(wire)


def _kind(wire: JsonObject) -> Kind:
    return next(kind for kind in _KINDS if kind.name == wire["kind"])


def _edition(wire: JsonObject) -> str:
    """Names an object as it is written now."""
    return f"{wire['metadata'].get('uid')}/{wire['metadata'].get('generation')}"


def _says(ingress: JsonObject) -> tuple[object, object]:
    """The part of an Ingress that people write."""
    return ingress.get("spec"), ingress["metadata"].get("annotations")


def _service_of(piece: JsonObject) -> Key:
    return object_namespace(piece), (piece["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL, "")
