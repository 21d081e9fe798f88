"""Who keeps whom: owner references."""

from __future__ import annotations

from testbed.cluster.objects import JsonObject, object_name


def controller(wire: JsonObject) -> tuple[str, str] | None:
    """The kind and the uid of the object that keeps this one, None when none does."""
    for reference in wire["metadata"].get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference.get("kind")), str(reference.get("uid", ""))
    return None


def controller_reference(owner: JsonObject) -> JsonObject:
    """The reference by which an object is kept. Without a uid when the owner has none yet: the store completes it."""
    uid = {"uid": owner["metadata"]["uid"]} if "uid" in owner["metadata"] else {}
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": object_name(owner),
        "controller": True,
        "blockOwnerDeletion": True,
        **uid,
    }


def references_without(wire: JsonObject, owner_uid: str) -> list[JsonObject]:
    """An object's owner references but for those to one owner."""
    references = wire["metadata"].get("ownerReferences") or ()
    return [reference for reference in references if reference.get("uid") != owner_uid]
