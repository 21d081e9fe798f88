"""How the answers to one probe of a container stand. Pure.

https://kubernetes.io/docs/tasks/configure-pod-container/configure-liveness-readiness-startup-probes/
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from testbed.cluster.objects import JsonObject

ProbeKind = Literal["startup", "liveness", "readiness"]
PROBE_FIELDS: dict[ProbeKind, str] = {
    "startup": "startupProbe",
    "liveness": "livenessProbe",
    "readiness": "readinessProbe",
}

# Programs here are up in milliseconds, not in the seconds that pulling and starting a container takes, so until the
# first success the question is put more often than Kubernetes' shortest period, which is a second.
_UNTIL_READY_S = 0.1


@dataclass
class ProbeState:
    """One probe of one run of a container. ``passed`` is what counts: the liveness of a container that was not asked
    yet is taken for granted, its readiness and its start are not."""

    kind: ProbeKind
    spec: JsonObject = field(repr=False)
    passed: bool = False
    has_passed: bool = False
    streak: int = 0
    told_s: float = float("-inf")

    def __post_init__(self) -> None:
        self.passed = self.kind == "liveness"

    @property
    def period_s(self) -> float:
        return float(self.spec.get("periodSeconds") or 10)

    @property
    def timeout_s(self) -> float:
        return float(self.spec.get("timeoutSeconds") or 1)

    @property
    def delay_s(self) -> float:
        """Until the first question."""
        return float(self.spec.get("initialDelaySeconds") or 0)

    @property
    def next_s(self) -> float:
        """Until the next question."""
        if self.kind == "liveness" or self.has_passed:
            return self.period_s
        return min(self.period_s, _UNTIL_READY_S)

    def take(self, answer: bool, elapsed_s: float) -> bool:
        """Count an answer that came so long after the container's start; whether something follows from it.

        That is a change of ``passed``, and for liveness and startup also the failure that is one too many: a startup
        probe has so much time as its failures take at its own period, however often it is asked meanwhile.
        """
        if answer:
            self.has_passed = True
        if self.kind == "startup" and not answer:
            return elapsed_s >= self.delay_s + self.period_s * self._failures
        if answer == self.passed:
            self.streak = 0
            return False
        self.streak += 1
        if self.streak < (int(self.spec.get("successThreshold") or 1) if answer else self._failures):
            return False
        self.passed, self.streak = answer, 0
        return True

    def tells(self, now_s: float) -> bool:
        """Whether a failure is worth an Event now: once a period, and not while a container may still be starting."""
        if self.told_s == float("-inf") and not self.has_passed and self.kind != "liveness":
            self.told_s = now_s
            return False
        if now_s - self.told_s < self.period_s * 0.9:
            return False
        self.told_s = now_s
        return True

    @property
    def _failures(self) -> int:
        return int(self.spec.get("failureThreshold") or 3)
