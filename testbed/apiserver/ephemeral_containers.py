"""The subresource ``ephemeralcontainers``: containers that ``kubectl debug`` adds to a pod that runs.

https://kubernetes.io/docs/concepts/workloads/pods/ephemeral-containers/
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from testbed.apiserver.answers import Form
from testbed.apiserver.bodies import body_object, posted_object
from testbed.apiserver.checks.containers import container_problems
from testbed.apiserver.checks.refusal import refusal
from testbed.apiserver.checks.words import Problem, duplicate, forbidden, not_found
from testbed.apiserver.exchange import Exchange
from testbed.apiserver.patching import change_of
from testbed.apiserver.paths import Target
from testbed.apiserver.writing import Change, dry_run
from testbed.cluster.kinds import POD
from testbed.cluster.objects import JsonObject
from testbed.cluster.schemas import field_text, schema_name, schema_problems
from testbed.cluster.status import BadRequest, Conflict

if TYPE_CHECKING:
    from testbed.apiserver.server import ApiServer

_RETRIES = 20
_OLD_KIND = "EphemeralContainers"  # what clients sent before Kubernetes 1.22
# What such a container cannot have: it is never started again, and nobody is led to it.
_FORBIDDEN = ("ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle", "resources")


def answer_ephemeral_containers(exchange: Exchange, server: ApiServer, target: Target) -> None:
    """Read the pod, or add containers to its ``spec.ephemeralContainers`` and change nothing else."""
    form, store = Form(exchange, target), server.store
    if exchange.method == "GET":
        exchange.answer(200, form.one(store.get(target.kind, *target.where)))
        return
    if exchange.method == "PUT":
        if body_object(exchange).get("kind") == _OLD_KIND:
            raise BadRequest("kubectl debug POD needs kubectl 1.23 or later: Kubernetes takes a Pod here since 1.22")
        change = _replacement(posted_object(exchange, target))
    else:
        change = change_of(exchange, target)
    for _ in range(_RETRIES):
        old = store.get(target.kind, *target.where)
        wanted = change(old).get("spec")
        listed = wanted.get("ephemeralContainers") if isinstance(wanted, dict) else None
        new = {**old, "spec": {**old["spec"], "ephemeralContainers": listed or []}}
        if problems := list(_problems(new, old)):
            raise refusal(target.kind, str(target.name), problems)
        try:
            exchange.answer(200, form.one(store.replace(new, dry_run=dry_run(exchange))))
        except Conflict:
            continue
        return
    raise Conflict(f'pods "{target.name}" changes all the time; please try again')


def _replacement(posted: JsonObject) -> Change:
    return lambda old: posted


def _problems(pod: JsonObject, old: JsonObject) -> Iterator[Problem]:
    at = "spec.ephemeralContainers"
    known = {problem.path for problem in schema_problems(old, schema_name(POD))}
    wrong = [problem for problem in schema_problems(pod, schema_name(POD)) if problem.path not in known]
    yield from ((field_text(problem.path), problem.message) for problem in wrong)
    if wrong:
        return
    spec, before = pod["spec"], old["spec"].get("ephemeralContainers") or []
    listed: Sequence[JsonObject] = spec["ephemeralContainers"]
    if any(container not in listed for container in before):
        yield at, forbidden("existing ephemeral containers may not be changed or removed")
    others = {one["name"] for part in ("containers", "initContainers") for one in spec.get(part) or ()}
    names, volumes = set(others), [str(volume.get("name")) for volume in spec.get("volumes") or ()]
    for index, container in enumerate(listed):
        name, here = container["name"], f"{at}[{index}]"
        if name in names:
            yield f"{here}.name", duplicate(name)
        names.add(name)
        yield from container_problems(container, volumes, here)
        for field in _FORBIDDEN:
            if container.get(field):
                yield f"{here}.{field}", forbidden("cannot be set for an Ephemeral Container")
        wanted = container.get("targetContainerName")
        if wanted and wanted not in others:
            yield f"{here}.targetContainerName", not_found(wanted)
