"""What a Namespace's life means for the objects in it, by the rules of Kubernetes' admission plugin
(k8s.io/apiserver/pkg/admission/plugin/namespace/lifecycle)."""

from __future__ import annotations

from collections.abc import Mapping

from testbed.cluster.kinds import NAMESPACE, Kind
from testbed.cluster.objects import DEFAULT_NAMESPACE, JsonObject
from testbed.cluster.pod_facts import is_terminating
from testbed.cluster.status import Forbidden, NotFound

# What every cluster has from its start (https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/).
INITIAL_NAMESPACES = (DEFAULT_NAMESPACE, "kube-system", "kube-public", "kube-node-lease")
_IMMORTAL = INITIAL_NAMESPACES[:3]

# In ``spec.finalizers``: the Namespace waits until it is empty.
CONTENT_FINALIZER = "kubernetes"


def check_accepts(kind: Kind, name: str, namespace: str, namespaces: Mapping[tuple[str, str], JsonObject]) -> None:
    """Whether an object can be put into a Namespace, of those that there are.

    Raises NotFound when there is none of that name, Forbidden when it is being deleted. Where there is not even
    ``default``, nobody keeps Namespaces.
    """
    if not kind.namespaced or ("", DEFAULT_NAMESPACE) not in namespaces:
        return
    found = namespaces.get(("", namespace))
    if found is None:
        raise NotFound(f'namespaces "{namespace}" not found', {"name": namespace, "kind": NAMESPACE.plural})
    if is_terminating(found):
        text = f"unable to create new content in namespace {namespace} because it is being terminated"
        cause = {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
        details = {"name": name, "kind": kind.plural, **({"group": kind.group} if kind.group else {})}
        raise Forbidden(f'{kind.resource} "{name}" is forbidden: {text}', {**details, "causes": [cause]})


def check_may_go(kind: Kind, name: str) -> None:
    """Raises Forbidden for a Namespace that no cluster can be without."""
    if kind is NAMESPACE and name in _IMMORTAL:
        text = "this namespace may not be deleted"
        raise Forbidden(f'{kind.resource} "{name}" is forbidden: {text}', {"name": name, "kind": kind.plural})


def waits_for(kind: Kind, wire: JsonObject) -> list[str]:
    """What keeps an object there when it is deleted: its finalizers, and those of a Namespace's content."""
    own = list(wire["metadata"].get("finalizers") or ())
    content = (wire.get("spec") or {}).get("finalizers") or () if kind is NAMESPACE else ()
    return [*own, *content]
