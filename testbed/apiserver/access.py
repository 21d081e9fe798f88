"""Who may do what: whoever is let in may do everything, and is told so (``kubectl auth can-i``)."""

from __future__ import annotations

from testbed.apiserver.bodies import body_object
from testbed.apiserver.exchange import Exchange
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest, MethodNotAllowed

ACCESS_GROUP, ACCESS_VERSION = "authorization.k8s.io", "v1"

# The kinds of reviews by plural, and what their status says.
_STATUS: dict[str, tuple[str, JsonObject]] = {
    "selfsubjectaccessreviews": ("SelfSubjectAccessReview", {"allowed": True}),
    "selfsubjectrulesreviews": (
        "SelfSubjectRulesReview",
        {
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        },
    ),
}


def access_review(exchange: Exchange, path: str) -> bool:
    """Answer a question for permission; False when the path is none. Raises BadRequest, MethodNotAllowed."""
    prefix, _, plural = path.rpartition("/")
    if prefix != f"/apis/{ACCESS_GROUP}/{ACCESS_VERSION}" or plural not in _STATUS:
        return False
    if exchange.method != "POST":
        raise MethodNotAllowed("a review can only be created")
    kind, status = _STATUS[plural]
    review = body_object(exchange)
    if review.get("kind") != kind:
        raise BadRequest(f"the object is no {kind}")
    exchange.answer(201, {**review, "status": status})
    return True


def review_resources() -> list[JsonObject]:
    """How discovery lists them."""
    return [
        {"name": plural, "singularName": kind.lower(), "namespaced": False, "kind": kind, "verbs": ["create"]}
        for plural, (kind, _) in _STATUS.items()
    ]
