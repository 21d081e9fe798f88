"""Ingresses that do not work as they are written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from testbed.checkup.findings import Finding
from testbed.checkup.running import RunningCluster
from testbed.cluster.ingress.controllers import is_controller
from testbed.cluster.ingress.translation import Sources, translate
from testbed.cluster.ingress.values import Key
from testbed.cluster.kinds import EVENT, INGRESS, INGRESS_CLASS, SECRET, SERVICE
from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.pod_facts import is_ready

_REMEDIES = {
    "NotServed": "name a class in spec.ingressClassName: kubectl get ingressclasses; testbed/addons/ingress-nginx.yaml",
    "ServiceNotFound": "create the Service, or correct the backend's name",
    "ServicePortNotFound": "correct the backend's port: kubectl get services",
    "CertificateUnusable": "create a Secret of type kubernetes.io/tls: kubectl create secret tls",
}
_UNSERVED = "kubectl apply -f testbed/addons/ingress-nginx.yaml; if it is there: kubectl -n ingress-nginx get pods"


def check(cluster: RunningCluster) -> list[Finding]:
    """A fault for each thing that keeps a rule of an Ingress from working; none where there is no Ingress."""
    ingresses = cluster.objects(INGRESS)
    if not ingresses:
        return []
    services = {_key(wire): wire for wire in cluster.objects(SERVICE)}
    secrets = {_key(wire) for wire in cluster.objects(SECRET)}
    sources = Sources(
        ingresses,
        cluster.objects(INGRESS_CLASS),
        services.get,
        lambda key: "" if key in secrets else f"Secret {'/'.join(key)} does not exist",
    )
    ready = any(is_controller(pod) and is_ready(pod) for pod in cluster.pods.values())
    return judge(sources, cluster.objects(EVENT), has_controller=ready)


def _key(wire: JsonObject) -> Key:
    return object_namespace(wire), object_name(wire)


def judge(sources: Sources, events: Iterable[JsonObject], *, has_controller: bool) -> list[Finding]:
    """The same from the objects, from what the controller has told as Events, and whether one is ready."""
    translation = translate(sources)
    said = [(_key(one.ingress), one.reason, one.message) for one in translation.findings]
    said += [told for told in _told(events, translation.served) if told not in said]
    found = [_finding(*one) for one in said]
    if translation.served and not has_controller:
        what = f"no Ingress controller is ready for {len(translation.served)} Ingresses"
        names = ", ".join("/".join(_key(wire)) for wire in translation.served[:3])
        found.append(Finding("ingresses", "fault", what, names, _UNSERVED))
    if not any(one.state == "fault" for one in found):
        found.append(Finding("ingresses", "ok", f"Ingresses that are served: {len(translation.served)}"))
    return found


def _told(events: Iterable[JsonObject], served: Sequence[JsonObject]) -> list[tuple[Key, str, str]]:
    """What only the controller knows: which Ingresses nginx refuses. One that has an address has been mended since."""
    left_out = [wire for wire in served if not ((wire.get("status") or {}).get("loadBalancer") or {}).get("ingress")]
    uids = {str(wire["metadata"].get("uid")): _key(wire) for wire in left_out}
    return [
        (uids[uid], "InvalidIngress", str(event.get("message")))
        for event in events
        if event.get("type") == "Warning"
        and event.get("reason") == "InvalidIngress"
        and (uid := str((event.get("involvedObject") or {}).get("uid"))) in uids
    ]


def _finding(key: Key, reason: str, message: str) -> Finding:
    namespace, name = key
    what = f"Ingress {namespace}/{name}: {message}"
    remedy = _REMEDIES.get(reason) or f"kubectl -n {namespace} edit ingress {name}"
    # An annotation without effect leaves the rest working.
    return Finding("ingresses", "info" if reason == "AnnotationIgnored" else "fault", what, reason, remedy)
