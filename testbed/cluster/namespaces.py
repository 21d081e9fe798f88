"""The Namespaces that a cluster has without anybody asking for them."""

from __future__ import annotations

from testbed.cluster.kinds import KINDS, NAMESPACE
from testbed.cluster.namespace_lifecycle import INITIAL_NAMESPACES
from testbed.cluster.objects import JsonObject, object_namespace
from testbed.cluster.status import NotFound
from testbed.cluster.store import Store


def create_namespaces(store: Store) -> None:
    """Create the initial Namespaces, and those that objects are in, as far as they do not exist."""
    used = {object_namespace(wire): None for kind in KINDS if kind.namespaced for wire in store.list(kind).items}
    for name in dict.fromkeys((*INITIAL_NAMESPACES, *used)):
        try:
            store.get(NAMESPACE, name)
        except NotFound:
            store.create(namespace_object(name))


def namespace_object(name: str) -> JsonObject:
    """A Namespace as somebody asks for it."""
    return {"apiVersion": NAMESPACE.api_version, "kind": NAMESPACE.name, "metadata": {"name": name}}
