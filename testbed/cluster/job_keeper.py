"""The loop's part for Jobs."""

from __future__ import annotations

from dataclasses import dataclass, field

from testbed.cluster.jobs import Tally, expires_at, is_over, next_step
from testbed.cluster.keeper import RETRY_S, Hands, earliest
from testbed.cluster.kinds import JOB, POD
from testbed.cluster.objects import JsonObject, object_namespace
from testbed.cluster.pod_facts import condition, has_failed, is_finished, is_terminating
from testbed.cluster.workload_family import Family


@dataclass
class _Count:
    """The pods of a Job that have ended: so many before they were watched, and those that were seen, by uid."""

    succeeded_before: int = 0
    failed_before: int = 0
    succeeded: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)

    def take(self, pods: list[JsonObject]) -> Tally:
        for pod in pods:
            if is_finished(pod):
                (self.failed if has_failed(pod) else self.succeeded).add(pod["metadata"]["uid"])
        return Tally(self.succeeded_before + len(self.succeeded), self.failed_before + len(self.failed))


class JobKeeper:
    """Runs the pods of Jobs until enough have succeeded."""

    def __init__(self, family: Family, hands: Hands) -> None:
        self._family, self._hands = family, hands
        self._counts: dict[str, _Count] = {}

    def forget(self, uid: str) -> None:
        """A Job is gone."""
        self._counts.pop(uid, None)

    def keep(self, wire: JsonObject, now_s: float) -> float | None:
        expiry = expires_at(wire)
        if is_terminating(wire):
            return None
        if expiry is not None and expiry <= now_s:
            self._hands.delete(JOB, wire)
            return None
        pods = self._family.of(wire["metadata"]["uid"], POD)
        step = next_step(wire, pods, self._tally(wire, pods), now_s, self._family.names(POD, object_namespace(wire)))
        again_at = step.again_at
        if not self._hands.create_pods(wire, step.create):
            again_at = earliest(again_at, now_s + RETRY_S)
        self._hands.delete_pods(wire, step.delete)
        self._hands.report(wire, step.status)
        if not is_over(wire) and is_over({"status": step.status}):
            self._tell(wire, step.status)
        return earliest(again_at, expiry)

    def _tally(self, wire: JsonObject, pods: list[JsonObject]) -> Tally:
        uid = wire["metadata"]["uid"]
        if uid not in self._counts:
            # What the status has counted and is there no longer.
            seen, status = _Count(), wire.get("status") or {}
            now = seen.take(pods)
            seen.succeeded_before = max(0, int(status.get("succeeded", 0)) - now.succeeded)
            seen.failed_before = max(0, int(status.get("failed", 0)) - now.failed)
            self._counts[uid] = seen
        return self._counts[uid].take(pods)

    def _tell(self, wire: JsonObject, status: JsonObject) -> None:
        failure = condition({"status": status}, "Failed")
        if failure.get("status") == "True":
            self._hands.events.record(wire, "Warning", failure["reason"], failure["message"])
        else:
            self._hands.events.record(wire, "Normal", "Completed", "Job completed")
