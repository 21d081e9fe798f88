"""Who one is, and who may do what: whoever is let in may do everything, and is told so (``kubectl auth``)."""

from __future__ import annotations

from collections.abc import Iterator

from testbed.apiserver.bodies import body_object
from testbed.apiserver.exchange import Exchange
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest, MethodNotAllowed

_AUTHORIZATION, _AUTHENTICATION = ("authorization.k8s.io", "v1"), ("authentication.k8s.io", "v1")
# The group that may do everything in a Kubernetes cluster, and that of whoever has shown who he is.
_USER = {"username": "testbed-admin", "groups": ["system:masters", "system:authenticated"]}

# The reviews by group, version and plural: their kind, and what their status says.
_REVIEWS: dict[tuple[tuple[str, str], str], tuple[str, JsonObject]] = {
    (_AUTHENTICATION, "selfsubjectreviews"): ("SelfSubjectReview", {"userInfo": _USER}),
    (_AUTHORIZATION, "selfsubjectaccessreviews"): ("SelfSubjectAccessReview", {"allowed": True}),
    (_AUTHORIZATION, "selfsubjectrulesreviews"): (
        "SelfSubjectRulesReview",
        {
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        },
    ),
}
_PATHS = {f"/apis/{group}/{version}/{plural}": said for ((group, version), plural), said in _REVIEWS.items()}


def access_review(exchange: Exchange, path: str) -> bool:
    """Answer a question for permission; False when the path is none. Raises BadRequest, MethodNotAllowed."""
    if path not in _PATHS:
        return False
    if exchange.method != "POST":
        raise MethodNotAllowed("a review can only be created")
    kind, status = _PATHS[path]
    review = body_object(exchange)
    if review.get("kind") != kind:
        raise BadRequest(f"the object is no {kind}")
    exchange.answer(201, {**review, "status": status})
    return True


def review_resources() -> Iterator[tuple[tuple[str, str], JsonObject]]:
    """How discovery lists them, each with its group and version."""
    for (group_version, plural), (kind, _) in _REVIEWS.items():
        described = {"singularName": kind.lower(), "namespaced": False, "kind": kind, "verbs": ["create"]}
        yield group_version, {"name": plural, **described}
