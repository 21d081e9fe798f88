"""Tables in wire form (meta/v1 Table)."""

from __future__ import annotations

import time
from collections.abc import Iterable

from testbed.apiserver.tables import cluster, network, pods, workloads
from testbed.apiserver.tables.columns import AGE, NAME, Layout, age
from testbed.cluster import kinds
from testbed.cluster.kinds import Kind
from testbed.cluster.objects import JsonObject
from testbed.cluster.status import BadRequest

_LAYOUTS: dict[Kind, Layout] = {
    kinds.POD: pods.PODS,
    kinds.DEPLOYMENT: workloads.DEPLOYMENTS,
    kinds.REPLICA_SET: workloads.REPLICA_SETS,
    kinds.STATEFUL_SET: workloads.STATEFUL_SETS,
    kinds.DAEMON_SET: workloads.DAEMON_SETS,
    kinds.JOB: workloads.JOBS,
    kinds.CRON_JOB: workloads.CRON_JOBS,
    kinds.POD_DISRUPTION_BUDGET: workloads.POD_DISRUPTION_BUDGETS,
    kinds.CONTROLLER_REVISION: workloads.CONTROLLER_REVISIONS,
    kinds.LEASE: cluster.LEASES,
    kinds.SERVICE: network.SERVICES,
    kinds.ENDPOINTS: network.ENDPOINTS,
    kinds.ENDPOINT_SLICE: network.ENDPOINT_SLICES,
    kinds.INGRESS: network.INGRESSES,
    kinds.INGRESS_CLASS: network.INGRESS_CLASSES,
    kinds.NETWORK_POLICY: network.NETWORK_POLICIES,
    kinds.NODE: cluster.NODES,
    kinds.NAMESPACE: cluster.NAMESPACES,
    kinds.CONFIG_MAP: cluster.CONFIG_MAPS,
    kinds.SECRET: cluster.SECRETS,
    kinds.EVENT: cluster.EVENTS,
}

# For a kind that nobody has given columns.
_PLAIN = Layout((NAME, AGE), lambda wire, now: [wire["metadata"]["name"], age(wire, now)])

_INCLUDED = ("", "None", "Metadata", "Object")


class TableForm:
    """How one request wants its tables. Raises BadRequest for an ``includeObject`` that does not exist."""

    def __init__(self, kind: Kind, version: str, include_object: str) -> None:
        if include_object not in _INCLUDED:
            raise BadRequest(f"includeObject {include_object!r} is none of None, Metadata, Object")
        self._layout = _LAYOUTS.get(kind, _PLAIN)
        self._version, self._include = version, include_object or "Metadata"

    def table(self, wires: Iterable[JsonObject], metadata: JsonObject, with_columns: bool = True) -> JsonObject:
        """Some objects as a table. A watch says the columns once: ``with_columns``."""
        now = time.time()
        table: JsonObject = {
            "kind": "Table",
            "apiVersion": f"meta.k8s.io/{self._version}",
            "metadata": metadata,
            "columnDefinitions": [column.definition() for column in self._layout.columns] if with_columns else [],
            "rows": [self._row(wire, now) for wire in wires],
        }
        return table

    def _row(self, wire: JsonObject, now: float) -> JsonObject:
        row: JsonObject = {"cells": self._layout.cells(wire, now)}
        if self._include == "Object":
            row["object"] = wire
        elif self._include == "Metadata":
            row["object"] = {
                "kind": "PartialObjectMetadata",
                "apiVersion": f"meta.k8s.io/{self._version}",
                "metadata": wire["metadata"],
            }
        return row
