"""DaemonSets to Pods: what should be, as a pure function of what is (k8s.io/kubernetes/pkg/controller/daemon)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from testbed.cluster.deployments import share
from testbed.cluster.endpoint_slices import safe_digest
from testbed.cluster.node_fit import DAEMON_TOLERATIONS, matches_node, required_terms, taints_of, untolerated
from testbed.cluster.objects import JsonObject, natural_key, object_name
from testbed.cluster.pod_facts import available_at, created_at, has_failed, is_ready, is_terminating, labels_of
from testbed.cluster.replica_sets import min_ready_s
from testbed.cluster.templates import REVISION_HASH_LABEL, template_hash, template_pod

# A daemon that failed is made anew after this long.
_RETRY_S = 10.0

_Nodes = Mapping[str, JsonObject]
_Pods = dict[str, list[JsonObject]]  # by the node that they are on or are made for


class DaemonStep(NamedTuple):
    """What to do now: pods to make and pods to delete, those among the deleted that failed, and when to look again
    though nothing changes (seconds since the epoch)."""

    create: list[JsonObject]
    delete: list[JsonObject]
    failed: list[JsonObject]
    again_at: float | None = None


def node_of(pod: JsonObject) -> str:
    """The node that a daemon's pod is on, or is made for; "" when neither can be told."""
    if name := pod["spec"].get("nodeName"):
        return str(name)
    for term in required_terms(pod["spec"]) or ():
        for each in term.get("matchFields") or ():
            if each.get("key") == "metadata.name" and each.get("operator") == "In" and len(each["values"]) == 1:
                return str(each["values"][0])
    return ""


def daemon_pod(daemon_set: JsonObject, node_name: str, taken: Container[str] = ()) -> JsonObject:
    """The pod for one node, bound there by affinity, so that the scheduler still looks for room. ``taken`` are names
    that it cannot have."""
    base, digest, attempt = object_name(daemon_set), template_hash(daemon_set), 0
    while (name := f"{base}-{safe_digest(f'{base} {node_name} {digest} {attempt}', 5)}") in taken:
        attempt += 1
    pod = template_pod(daemon_set, daemon_set["spec"]["template"], name, {REVISION_HASH_LABEL: digest})
    spec = pod["spec"]
    only = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node_name]}]}
    affinity = spec.get("affinity") or {}
    required = {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{**term, **only} for term in required_terms(spec) or ({},)]
        }
    }
    own = {
        **spec,
        "affinity": {**affinity, "nodeAffinity": {**(affinity.get("nodeAffinity") or {}), **required}},
        "tolerations": [*(spec.get("tolerations") or ()), *DAEMON_TOLERATIONS],
    }
    return {**pod, "spec": own}


def wants(daemon_set: JsonObject, node: JsonObject) -> tuple[bool, bool]:
    """Whether a node should have a pod of the DaemonSet, and whether one that is there may stay."""
    template = daemon_set["spec"]["template"]["spec"]
    name, labels = object_name(node), labels_of(node)
    if template.get("nodeName") not in (None, "", name) or not matches_node(template, name, labels):
        return False, False
    tolerant = {"tolerations": [*(template.get("tolerations") or ()), *DAEMON_TOLERATIONS]}
    effects = {taint["effect"] for taint in untolerated(tolerant, taints_of(node), ("NoSchedule", "NoExecute"))}
    return not effects, "NoExecute" not in effects


def next_step(
    daemon_set: JsonObject, nodes: _Nodes, pods: Sequence[JsonObject], now_s: float, taken: Container[str] = ()
) -> DaemonStep:
    """What is to be done now: a pod for every node that should have one, then the update of those that are old.
    ``taken`` are names that a pod cannot have."""
    by_node = _by_node(pods)
    eligible = {name: wants(daemon_set, node) for name, node in nodes.items()}
    create: list[str] = []
    delete: list[JsonObject] = []
    failed: list[JsonObject] = []
    again_at: list[float] = []
    for name in sorted({*nodes, *by_node}, key=natural_key):
        should, may_stay = eligible.get(name, (False, False))
        here = by_node.get(name, [])
        if should and not here:
            create.append(name)
        elif not may_stay:
            delete += [pod for pod in here if not is_terminating(pod)]
        else:
            running = [pod for pod in here if not is_terminating(pod)]
            for pod in filter(has_failed, running):
                if created_at(pod) + _RETRY_S <= now_s:
                    failed.append(pod)
                else:
                    again_at.append(created_at(pod) + _RETRY_S)
            delete += _surplus(daemon_set, [pod for pod in running if not has_failed(pod)], now_s)
    delete += failed
    if not create and not delete and _strategy(daemon_set).get("type", "RollingUpdate") == "RollingUpdate":
        wanted = [name for name, (should, _) in eligible.items() if should]
        create, delete = _roll(daemon_set, sorted(wanted, key=natural_key), by_node, now_s)
    made = [daemon_pod(daemon_set, name, taken) for name in create]
    return DaemonStep(made, delete, failed, min(again_at, default=None))


def daemon_set_status(daemon_set: JsonObject, nodes: _Nodes, pods: Sequence[JsonObject], now_s: float) -> JsonObject:
    """The DaemonSet's ``status``."""
    by_node, digest, quiet_s = _by_node(pods), template_hash(daemon_set), min_ready_s(daemon_set)
    desired = current = misplaced = ready = updated = available = 0
    for name, node in nodes.items():
        here = sorted(by_node.get(name, ()), key=_age)
        should, _ = wants(daemon_set, node)
        desired += should
        if here and not should:
            misplaced += 1
        elif here:
            oldest = here[0]
            current += 1
            ready += is_ready(oldest)
            available += _is_available(oldest, quiet_s, now_s)
            updated += _is_new(oldest, digest)
    return {
        "currentNumberScheduled": current,
        "desiredNumberScheduled": desired,
        "numberMisscheduled": misplaced,
        "numberReady": ready,
        "updatedNumberScheduled": updated,
        "numberAvailable": available,
        "numberUnavailable": desired - available,
        "observedGeneration": daemon_set["metadata"].get("generation", 1),
    }


def _strategy(daemon_set: JsonObject) -> JsonObject:
    return daemon_set["spec"].get("updateStrategy") or {}


def _limits(daemon_set: JsonObject, desired: int) -> tuple[int, int]:
    """``maxSurge`` and ``maxUnavailable`` in nodes."""
    limits = _strategy(daemon_set).get("rollingUpdate") or {}
    surge = share(limits.get("maxSurge", 0), desired, round_up=True)
    unavailable = share(limits.get("maxUnavailable", 1), desired, round_up=True)
    return surge, 1 if surge == unavailable == 0 and desired else unavailable


def _roll(
    daemon_set: JsonObject, wanted: Sequence[str], by_node: _Pods, now_s: float
) -> tuple[list[str], list[JsonObject]]:
    """Nodes on which a new pod is to be made beside the old one, and old pods that are to go."""
    surge, unavailable = _limits(daemon_set, len(wanted))
    digest, quiet_s = template_hash(daemon_set), min_ready_s(daemon_set)
    useless: list[tuple[str, JsonObject]] = []
    useful: list[tuple[str, JsonObject]] = []
    done: list[JsonObject] = []
    lacking = surging = 0
    for name in wanted:
        alive = [pod for pod in by_node.get(name, ()) if not is_terminating(pod) and not has_failed(pod)]
        new = [pod for pod in alive if _is_new(pod, digest)]
        old = [pod for pod in alive if not _is_new(pod, digest)]
        if not old:
            lacking += not any(_is_available(pod, quiet_s, now_s) for pod in new)
        elif new:
            surging += 1
            if any(_is_available(pod, quiet_s, now_s) for pod in new):
                done += old
        elif any(_is_available(pod, quiet_s, now_s) for pod in old):
            useful.append((name, old[0]))
        else:
            lacking += 1
            useless.append((name, old[0]))
    if surge:
        return [name for name, _ in (*useless, *useful[: max(0, surge - surging)])], done
    return [], [pod for _, pod in (*useless, *useful[: max(0, unavailable - lacking)])]


def _surplus(daemon_set: JsonObject, running: Sequence[JsonObject], now_s: float) -> Iterator[JsonObject]:
    """Those of a node's pods that are too many: one of the present template and one of another stay while there may be
    two, rather those that are available, and the oldest of them."""
    digest, quiet_s = template_hash(daemon_set), min_ready_s(daemon_set)
    by_age = sorted(running, key=lambda pod: (not _is_available(pod, quiet_s, now_s), _age(pod)))
    if not _limits(daemon_set, 1)[0]:
        yield from by_age[1:]
        return
    new = [pod for pod in by_age if _is_new(pod, digest)]
    old = [pod for pod in by_age if not _is_new(pod, digest)]
    yield from (*new[1:], *old[1:])
    if new and old and (not is_ready(old[0]) or _is_available(new[0], quiet_s, now_s)):
        yield old[0]


def _is_new(pod: JsonObject, digest: str) -> bool:
    return labels_of(pod).get(REVISION_HASH_LABEL) == digest


def _is_available(pod: JsonObject, quiet_s: int, now_s: float) -> bool:
    since = available_at(pod, quiet_s)
    return since is not None and since <= now_s


def _age(pod: JsonObject) -> tuple[bool, float, str]:
    return not pod["spec"].get("nodeName"), created_at(pod), object_name(pod)


def _by_node(pods: Iterable[JsonObject]) -> _Pods:
    found: _Pods = defaultdict(list)
    for pod in pods:
        if name := node_of(pod):
            found[name].append(pod)
    return found
