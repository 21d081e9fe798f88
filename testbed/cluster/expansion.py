"""From manifests to everything that follows from them before anything runs: pods, addresses, EndpointSlices."""

from __future__ import annotations

import marshal
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from testbed.cluster import replica_sets
from testbed.cluster.config_rules import config_problems
from testbed.cluster.daemon_sets import daemon_pod, wants
from testbed.cluster.defaulting import set_defaults
from testbed.cluster.deployments import REVISION, replica_set
from testbed.cluster.endpoint_slices import endpoint_slices, mirrored_slices
from testbed.cluster.field_problem import FieldProblem
from testbed.cluster.jobs import job_pods, wanted_now
from testbed.cluster.kinds import NODE, POD, kind_of
from testbed.cluster.label_index import PodIndex
from testbed.cluster.objects import JsonObject, is_valid_name, object_name, object_namespace
from testbed.cluster.pod_ledger import PodLedger, PodRefused
from testbed.cluster.replica_sets import replicas_of
from testbed.cluster.revisions import revision_object
from testbed.cluster.service_allocation import ServiceAllocator
from testbed.cluster.services import SERVICE_NAME_LABEL, selector_of
from testbed.cluster.stateful_sets import first_ordinal, is_ordered, stateful_pod
from testbed.cluster.status import BadRequest
from testbed.cluster.values import NetworkConfig
from testbed.cluster.workload_rules import WORKLOADS, set_workload_defaults, workload_problems


class Refusal(NamedTuple):
    """A manifest that cannot be: its position, its kind, its name as far as it has one, and a field that is wrong."""

    position: int
    kind: str
    name: str
    problem: FieldProblem


class Expansion:
    """Takes manifests and collects the complete ``objects``, and what is ``refused``, by the manifests' order.

    All pods of a StatefulSet are there at once: the cluster is planned as it is after it has come up, because what is
    measured must be the same whatever the pods take to start. In a ``living`` one the loops start them in order.
    """

    def __init__(
        self, ledger: PodLedger, config: NetworkConfig, nodes: Sequence[JsonObject], living: bool = False
    ) -> None:
        self._ledger, self._allocator, self._nodes, self._living = ledger, ServiceAllocator(config), nodes, living
        self._seen: set[tuple[str, str, str]] = set()
        self._pods = PodIndex()
        self._services: list[tuple[int, JsonObject]] = []
        self.objects: list[JsonObject] = []
        self.refused: list[Refusal] = []

    def add(self, manifests: Iterable[JsonObject]) -> None:
        """Take all manifests of a cluster, which are not changed."""
        for index, manifest in enumerate(manifests):
            if manifest.get("kind") == POD.name:
                self._place(index, POD.name, manifest)
            elif (wire := self._sound_copy(index, manifest)) is not None:
                self._add(index, wire)
        refused = self._allocator.admit_all([service for _, service in self._services])
        for position, (index, service) in enumerate(self._services):
            if position in refused:
                self._refuse(index, service, refused[position].problems)
            else:
                self.objects.append(service)
        self.objects += self._slices([service for n, (_, service) in enumerate(self._services) if n not in refused])
        self.refused.sort(key=lambda refusal: refusal.position)

    def _add(self, index: int, wire: JsonObject) -> None:
        kind = wire["kind"]
        if kind == "Service":
            self._services.append((index, wire))
        elif kind in WORKLOADS:
            set_workload_defaults(wire)
            problems = list(workload_problems(wire))
            if problems:
                self._refuse(index, wire, problems)
                return
            self.objects.append(wire)
            self._place_all(index, wire, self._pods_of(wire))
        elif kind in ("ConfigMap", "Secret"):
            set_defaults(kind_of(wire), wire)
            self._refuse(index, wire, problems := list(config_problems(wire)))
            if not problems:
                self.objects.append(wire)
        else:
            self.objects.append(wire)

    def _pods_of(self, workload: JsonObject) -> list[JsonObject]:
        """The pods that a workload has at first; what stands between is added to the objects."""
        match workload["kind"]:
            case "Deployment":
                made = replica_set(workload, replicas_of(workload))
                workload["metadata"].setdefault("annotations", {})[REVISION] = made["metadata"]["annotations"][REVISION]
                self.objects.append(made)
                return replica_sets.scale(made, (), 0).create
            case "StatefulSet":
                revision = revision_object(workload, 1)
                self.objects.append(revision)
                first, count = first_ordinal(workload), replicas_of(workload)
                if self._living and is_ordered(workload):
                    count = min(count, 1)
                ordinals = range(first, first + count)
                return [stateful_pod(workload, revision, ordinal) for ordinal in ordinals]
            case "DaemonSet":
                self.objects.append(revision_object(workload, 1))
                return [daemon_pod(workload, object_name(node)) for node in self._nodes if wants(workload, node)[0]]
            case "Job":
                return job_pods(workload, wanted_now(workload, 0))
            case _:
                return replica_sets.scale(workload, (), 0).create

    def _place_all(self, index: int, manifest: JsonObject, pods: Iterable[JsonObject]) -> None:
        told: set[tuple[str, str]] = set()
        for pod in pods:
            refused = self._place(index, "", pod)
            if refused is not None and (refused.field, refused.reason) not in told:
                # What is wrong with one pod of a template is wrong with all.
                told.add((refused.field, refused.reason))
                field = refused.field if refused.field == "metadata.name" else f"spec.template.{refused.field}"
                self._refuse(index, manifest, [refused._replace(field=field)])

    def _place(self, index: int, kind: str, pod: JsonObject) -> FieldProblem | None:
        """Give a pod its node and address; the problem when there is none. It counts as a manifest's with ``kind``."""
        try:
            placed = self._ledger.assign(pod)
        except PodRefused as refused:
            if kind:
                self.refused.append(Refusal(index, kind, refused.name, refused.problem))
            return refused.problem
        self._pods.put(placed)
        self.objects.append(placed)
        return None

    def _sound_copy(self, index: int, manifest: JsonObject) -> JsonObject | None:
        """A copy of a manifest whose kind and name are in order, and are not another's."""
        wire: JsonObject = marshal.loads(marshal.dumps(manifest))
        kind_name, metadata = str(wire.get("kind")), wire.get("metadata") or {}
        try:
            kind = kind_of(wire)
        except BadRequest as error:
            self.refused.append(Refusal(index, kind_name, "", FieldProblem("kind", error.message)))
            return None
        name = metadata.get("name")
        if kind is NODE:
            self._refuse(index, wire, [FieldProblem("kind", "Nodes come from the topology")])
        elif not is_valid_name(name):
            text = str(name or "")
            problem = FieldProblem("metadata.name", f"a {kind.name} needs a name", text, "RFC 1123 subdomain")
            self.refused.append(Refusal(index, kind.name, text, problem))
        else:
            if kind.namespaced:
                metadata["namespace"] = object_namespace(wire)
            identity = kind.name, metadata.get("namespace", ""), name
            if identity not in self._seen:
                self._seen.add(identity)
                return wire
            self._refuse(
                index,
                wire,
                [FieldProblem("metadata.name", f"two objects of the kind {kind.name} have this name", name)],
            )
        return None

    def _refuse(self, index: int, wire: JsonObject, problems: Iterable[FieldProblem]) -> None:
        namespace = wire["metadata"].get("namespace")
        name = f"{namespace}/{object_name(wire)}" if namespace else object_name(wire)
        self.refused += (Refusal(index, wire["kind"], name, problem) for problem in problems)

    def _slices(self, services: Iterable[JsonObject]) -> Iterator[JsonObject]:
        """The slices of all Services, beside those that are among the manifests."""
        written: dict[tuple[str, str], list[JsonObject]] = defaultdict(list)
        endpoints: dict[tuple[str, str], JsonObject] = {}
        for wire in self.objects:
            if wire["kind"] == "EndpointSlice":
                service_name = (wire["metadata"].get("labels") or {}).get(SERVICE_NAME_LABEL, "")
                written[object_namespace(wire), service_name].append(wire)
            elif wire["kind"] == "Endpoints":
                endpoints[object_namespace(wire), object_name(wire)] = wire
        for service in services:
            key = object_namespace(service), object_name(service)
            existing = written.get(key, ())
            if selector := selector_of(service):
                yield from endpoint_slices(service, self._pods.candidates(key[0], selector), existing)
            else:
                yield from mirrored_slices(service, endpoints.get(key), existing)
