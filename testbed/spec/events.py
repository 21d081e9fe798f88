"""What may be done to a cluster while it is measured, as checked values. Descriptions feed the JSON Schema."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from testbed.spec.field_types import DnsLabel, PositiveInt
from testbed.spec.model import Model

Replicas = Annotated[int, Field(ge=0, le=1000, strict=True)]


class Scale(Model):
    """A number of replicas for a Deployment, as ``kubectl scale`` sets it."""

    deployment: str = Field(description="name of a Deployment of the manifests")
    namespace: DnsLabel = Field(default="default", description="the Deployment's namespace")
    replicas: Replicas = Field(description="how many pods it shall have")

    def __str__(self) -> str:
        return f"{_named(self.namespace, self.deployment)} to {self.replicas}"


class Rollout(Model):
    """New pods for a Deployment by its own strategy, as ``kubectl rollout restart``, or ``kubectl set image`` and
    ``kubectl set env``, have it make them."""

    deployment: str = Field(description="name of a Deployment of the manifests")
    namespace: DnsLabel = Field(default="default", description="the Deployment's namespace")
    container: str | None = Field(
        default=None, description="which container gets the image and the variables; by default the first"
    )
    image: str | None = Field(default=None, min_length=1, description="a new image; by default the same")
    env: dict[str, str] = Field(default_factory=dict, description="variables set beside, or over, those it has")

    def __str__(self) -> str:
        words = [self.image or "", *(f"{name}={value}" for name, value in self.env.items())]
        news = " ".join(word for word in words if word)
        return f"rollout of {_named(self.namespace, self.deployment)}" + (f" with {news}" if news else "")


class Pods(Model):
    """One pod by its name, or those that have some labels."""

    namespace: DnsLabel = Field(default="default", description="the pods' namespace")
    pod: str | None = Field(default=None, description="name of a pod that always has this name")
    selector: dict[str, str] | None = Field(default=None, min_length=1, description="labels of the pods that are meant")
    count: PositiveInt | None = Field(
        default=None, description="how many of those with the labels, ready ones first; all by default"
    )

    def __str__(self) -> str:
        if self.pod is not None:
            return _named(self.namespace, self.pod)
        labels = ",".join(f"{key}={value}" for key, value in (self.selector or {}).items())
        some = f"{self.count} " if self.count is not None else ""
        return f"{some}{labels}" + ("" if self.namespace == "default" else f" in {self.namespace}")


class DeletePod(Pods):
    """Pods that are deleted, as ``kubectl delete pod`` does it: they have their grace period."""

    def __str__(self) -> str:
        return f"delete {super().__str__()}"


class Kill(Pods):
    """A container's process that gets SIGKILL; its pod stays, and restarts it by its restart policy."""

    container: str | None = Field(default=None, description="which container; by default the pod's first")

    def __str__(self) -> str:
        return f"kill {self.container + ' of ' if self.container else ''}{super().__str__()}"


class OneNode(Model):
    """A node of the topology."""

    node: str = Field(description="name of a node")


class Nothing(Model):
    """An event that needs no details: ``{}``."""


class EventExpectation(Model):
    """What an event may cost at the most, in any round; what costs more makes the command end with status 1."""

    lost_at_most: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        default=None, description="requests without a good answer (failed, or none within a second) put down to it"
    )
    late_at_most: Annotated[int, Field(ge=0, strict=True)] | None = Field(
        default=None, description="good answers after the probe's late_ms put down to it"
    )
    recovered_within_s: Annotated[float, Field(ge=0, le=3600, strict=True)] | None = Field(
        default=None, description="from the event to the last request that it cost, or that a pod it removed answered"
    )
    confirmed_within_s: Annotated[float, Field(ge=0, le=3600, strict=True)] | None = Field(
        default=None, description="from the event until everything that follows from it was done and confirmed"
    )


class Event(Model):
    """Something done to the cluster while a cell runs: one thing. After the cell the cluster is brought back."""

    at_s: Annotated[float, Field(ge=0, le=3600, strict=True)] = Field(
        description="time since the cell's measuring began, after the warm-up"
    )
    scale: Scale | None = Field(default=None, description="scale a Deployment")
    rollout: Rollout | None = Field(default=None, description="make a Deployment's pods anew, by its strategy")
    delete_pod: DeletePod | None = Field(default=None, description="delete pods")
    kill: Kill | None = Field(default=None, description="kill a container's process (SIGKILL)")
    drain: OneNode | None = Field(
        default=None, description="cordon a node and evict its pods, but for those of DaemonSets"
    )
    uncordon: OneNode | None = Field(default=None, description="let a drained node have pods again")
    stop_node: OneNode | None = Field(default=None, description="a node fails: nothing on it runs or answers any more")
    start_node: OneNode | None = Field(default=None, description="a node that was stopped comes back")
    stop_controller: Nothing | None = Field(default=None, description="end the OpenFlow controller: {}")
    start_controller: Nothing | None = Field(default=None, description="start the OpenFlow controller again: {}")
    expect: EventExpectation | None = Field(default=None, description="what the event may cost")

    @property
    def actions(self) -> tuple[str, ...]:
        """The names of what it does; exactly one in an event that has been checked."""
        return tuple(name for name in ACTIONS if getattr(self, name) is not None)

    @property
    def action(self) -> str:
        """The name of what it does."""
        return self.actions[0]

    @property
    def what(self) -> str:
        """What it does, in a few words: ``drain n2``."""
        details = getattr(self, self.action)
        if isinstance(details, OneNode):
            return f"{self.action.removesuffix('_node')} {details.node}"
        return self.action.replace("_", " the ") if isinstance(details, Nothing) else str(details)


ACTIONS = tuple(name for name in Event.model_fields if name not in ("at_s", "expect"))


def _named(namespace: str, name: str) -> str:
    return name if namespace == "default" else f"{namespace}/{name}"
