"""The loop that makes the Jobs of CronJobs when their time has come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from testbed.cluster.attempt import attempt
from testbed.cluster.cron_jobs import next_step
from testbed.cluster.events import EventRecorder
from testbed.cluster.jobs import is_over
from testbed.cluster.keeper import Hands
from testbed.cluster.kinds import JOB
from testbed.cluster.objects import JsonObject, object_name
from testbed.cluster.ownership import controller
from testbed.cluster.pod_facts import condition, is_terminating
from testbed.cluster.store import Store


class CronJobLoop:
    """Told of CronJobs and Jobs, it makes and deletes Jobs."""

    def __init__(self, store: Store, recorder: Callable[[str], EventRecorder], clock: Callable[[], float]) -> None:
        self._hands, self._clock = Hands(store, recorder("cronjob-controller")), clock
        self._cron_jobs: dict[str, JsonObject] = {}  # by uid
        self._jobs: dict[str, dict[str, JsonObject]] = defaultdict(dict)  # by their owner's uid, then by their own
        self._changed: dict[str, None] = {}
        self._due: dict[str, float] = {}

    def put(self, wire: JsonObject) -> None:
        uid = wire["metadata"]["uid"]
        if wire["kind"] == "CronJob":
            self._cron_jobs[uid] = wire
            self._changed[uid] = None
        elif (owner := self._owner(wire)) is not None:
            self._tell_of_end(owner, self._jobs[owner].get(uid), wire)
            self._jobs[owner][uid] = wire
            self._changed[owner] = None

    def remove(self, wire: JsonObject) -> None:
        uid = wire["metadata"]["uid"]
        if wire["kind"] == "CronJob":
            for known in (self._cron_jobs, self._due):
                known.pop(uid, None)
        elif (owner := self._owner(wire)) is not None:
            self._jobs[owner].pop(uid, None)
            if not self._jobs[owner]:
                del self._jobs[owner]
            self._changed[owner] = None

    def work(self) -> None:
        """Do what follows from the changes, and what its time has come for."""
        now_s = self._clock()
        changed, self._changed = self._changed, {}
        changed |= dict.fromkeys(uid for uid, due in self._due.items() if due <= now_s)
        for uid in changed:
            self._due.pop(uid, None)
            wire = self._cron_jobs.get(uid)
            if wire is not None and not is_terminating(wire):
                attempt(wire, lambda uid=uid, wire=wire: self._keep(uid, wire, now_s))  # type: ignore[misc]

    def due_s(self) -> float | None:
        """When the next Job is to be made."""
        return min(self._due.values(), default=None)

    @staticmethod
    def _owner(wire: JsonObject) -> str | None:
        owner = controller(wire) if wire["kind"] == "Job" else None
        return owner[1] if owner is not None and owner[0] == "CronJob" else None

    def _keep(self, uid: str, wire: JsonObject, now_s: float) -> None:
        step = next_step(wire, list(self._jobs.get(uid, {}).values()), now_s)
        if step.again_at is not None:
            self._due[uid] = step.again_at
        for reason, message in step.told:
            self._hands.events.record(wire, "Normal", reason, message)
        for job in step.delete:
            if self._hands.delete(JOB, job):
                self._hands.events.record(wire, "Normal", "SuccessfulDelete", f"Deleted job {object_name(job)}")
        # Noted first: a Job that could be made but not noted would be made again.
        self._hands.report(wire, step.status)
        if step.create is not None:
            self._hands.create(wire, step.create, f"Created job {object_name(step.create)}")

    def _tell_of_end(self, owner: str, before: JsonObject | None, job: JsonObject) -> None:
        cron_job = self._cron_jobs.get(owner)
        if cron_job is not None and before is not None and not is_over(before) and is_over(job):
            how = "Complete" if condition(job, "Complete").get("status") == "True" else "Failed"
            text = f"Saw completed job: {object_name(job)}, condition: {how}"
            self._hands.events.record(cron_job, "Normal", "SawCompletedJob", text)
