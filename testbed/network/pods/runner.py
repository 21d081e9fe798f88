"""One pod on its node: its namespaces and containers, from the first start to the last end.

Everything here happens in the kubelet's thread; what comes from other threads is handed to it by ``post``.
"""

from __future__ import annotations

import logging
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from testbed.cluster.events import EventRecorder, EventType
from testbed.cluster.kinds import Kind
from testbed.cluster.objects import JsonObject, object_name, object_namespace, pod_key
from testbed.cluster.values import PodNetwork
from testbed.network.containers import FOLDERS, ContainerProcess, Containers, Program, Stdin
from testbed.network.place import Place
from testbed.network.pods.cgroups import Group
from testbed.network.pods.environment import NotConfigured, container_variables
from testbed.network.pods.hooks import ask_page
from testbed.network.pods.lifecycle import (
    Backoff,
    ContainerRun,
    Running,
    Terminated,
    container_runs,
    ephemeral_runs,
    next_steps,
    terminated,
)
from testbed.network.pods.probes import Prober, Verdict, has_probe
from testbed.network.pods.rootfs import TOOLS
from testbed.network.pods.status import pod_status
from testbed.network.pods.volumes import CannotMount, container_mounts, make_volumes, update_volumes
from testbed.spec.images import UnavailableImage, container_program

LOG = logging.getLogger(__name__)

_RETRY_S = 2.0  # what a pod lacks is looked for again after this time, unless somebody says that it is there
_PULL_RETRY_S = 10.0
_IMAGES_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # what most images have
_HOOK_OUTPUT_BYTES = 10 * 1024

Stage = Literal["new", "making", "up", "ending", "ended"]


class Tools(Protocol):
    """What a pod is run with."""

    containers: Containers
    prober: Prober
    events: EventRecorder
    backoff_base_s: float

    def post(self, act: Callable[[], None]) -> None:
        """Do something in the kubelet's thread, soon."""

    def at(self, due: float, act: Callable[[], None]) -> None:
        """Do something in the kubelet's thread at a time (of the monotonic clock)."""

    def touched(self, runner: PodRunner) -> None:
        """Something about the pod has changed: look at it again."""

    def lookup(self, namespace: str, kind: Kind, name: str) -> JsonObject | None:
        """An object of the store."""

    def service_variables(self, namespace: str) -> dict[str, str]:
        """The variables that say where the Services of a namespace are."""


@dataclass(frozen=True)
class Attached:
    """What a pod was given before its programs may start; ``network`` is None on its node's own network."""

    network: PodNetwork | None
    place: Place


class PodRunner:
    """Runs one pod. ``pod`` is the object as it was last seen."""

    def __init__(self, pod: JsonObject, attached: Attached, tools: Tools) -> None:
        self.pod, self.network, self.place = pod, attached.network, attached.place
        self.key = pod_key(pod)
        self.node_name = str(pod["spec"]["nodeName"])
        self.stage: Stage = "new"
        self.runs = container_runs(pod["spec"], tools.backoff_base_s)
        self.settled = False
        """Everything that can be done for it now has been done, and is in its status."""
        self._tools = tools
        self._sandbox: ContainerProcess | None = None
        self._sandbox_asked = False
        self._start_s = time.time()
        self._volumes_made = False
        self._said: set[tuple[str, str]] = set()
        self._stopping: set[str] = set()
        self._lost: set[str] = set()  # containers that end because their namespaces have ended
        self._deadline = float("inf")
        self._processes: dict[str, ContainerProcess] = {}

    @property
    def folder(self) -> Path:
        """What of the pod is on the box's disk, so to speak."""
        return FOLDERS / self.place.state_name

    @property
    def uid(self) -> str:
        return str(self.pod["metadata"].get("uid", ""))

    # -- up ------------------------------------------------------------------------------------------------------

    def work(self) -> None:
        """Do what is to be done now. Called after every change, and when a wait is over."""
        if self.stage == "new":
            self._begin()
        if self.stage == "up":
            now = time.monotonic()
            steps = next_steps(self.runs, now)
            for run in steps.start:
                try:
                    self._start(run)
                except Exception as error:
                    LOG.exception("%s/%s cannot be started", self.key, run.name)
                    run.cannot_start("CreateContainerError", str(error), now + _RETRY_S)
            for run in steps.end:
                self.stop_container(run, self._grace_s)
            look_again = next_steps(self.runs, now).look_again
            if look_again is not None:
                self._tools.at(look_again, lambda: self._tools.touched(self))
        if self.stage == "ending":
            self._end_if_empty()

    @property
    def is_settled(self) -> bool:
        """Whether there is nothing that will go on without anything happening first."""
        return self.stage == "up" and not any(run.under_way for run in self.runs)

    def status(self) -> JsonObject:
        """The pod's status as it is now."""
        ready = self._sandbox is not None
        return pod_status(self.pod, self.runs, start_s=self._start_s, now_s=time.time(), ready=ready)

    def _begin(self) -> None:
        if not self._volumes_made:
            try:
                make_volumes(self.pod, self.folder / "volumes", self._lookup)
                self._volumes_made = True
            except Exception as error:
                if not isinstance(error, CannotMount):
                    LOG.exception("%s: volumes", self.key)
                self._say_once("Warning", "FailedMount", str(error) or repr(error))
                self.settled = True
                self._tools.at(time.monotonic() + _RETRY_S, lambda: self._tools.touched(self))
                return
        self.stage, self._sandbox_asked = "making", True
        self._tools.containers.make_sandbox(
            self.key,
            self.place,
            lambda process, error: self._tools.post(lambda: self._sandbox_made(process, error)),
            lambda _status: self._tools.post(self._sandbox_ended),
        )

    def _sandbox_made(self, process: ContainerProcess | None, error: str) -> None:
        self._tools.touched(self)
        self._sandbox, self._sandbox_asked = process, False
        if self.stage == "ending":
            if process is not None:
                self._tools.containers.signal([process], signal.SIGKILL)
        elif process is None:
            self._say_once("Warning", "FailedCreatePodSandBox", f"Failed to create pod sandbox: {error}")
            self.stage = "up"  # so that it counts as settled; containers wait for what is not there
            for run in self.runs:
                run.cannot_start("ContainerCreating", error, None)
            self._tools.at(time.monotonic() + _RETRY_S, self.make_again)
        else:
            self.stage = "up"
            if process.returncode is not None:
                self._sandbox_ended()

    def make_again(self) -> None:
        """Make the pod's namespaces anew where there are none, and start it from the beginning."""
        if self.stage != "up" or self._sandbox is not None:
            return
        self.stage = "new"
        for run in self.runs:
            if run.role != "ephemeral" and not run.under_way and (not run.is_done or run.role != "main"):
                run.due = 0.0
        self._tools.touched(self)

    def _sandbox_ended(self) -> None:
        if self._sandbox is None or self._sandbox.returncode is None:
            return  # this is about an earlier one
        self._sandbox = None
        self._tools.touched(self)
        if self.stage == "ending":
            return
        if self.stage == "up":
            message = "Pod sandbox changed, it will be killed and re-created."
            self._tools.events.record(self.pod, "Normal", "SandboxChanged", message)
            processes = [process for process in self._processes.values() if process.returncode is None]
            self._tools.containers.signal(processes, signal.SIGKILL, group=True)
            self._lost = {run.name for run in self.runs if isinstance(run.state, Running)}
            self.make_again()

    # -- containers ----------------------------------------------------------------------------------------------

    def _start(self, run: ContainerRun) -> None:
        """Start a container, or say what it lacks."""
        tools, spec = self._tools, run.spec
        now = time.monotonic()
        try:
            services = tools.service_variables(object_namespace(self.pod))
            if self.pod["spec"].get("enableServiceLinks") is False:
                services = {}
            variables = container_variables(self.pod, spec, self._lookup, services)
            argv = container_program(spec, variables)
            mounts = container_mounts(self.pod, spec, self.folder / "volumes", variables)
            number = run.runs + 1
            group = tools.containers.cgroups.make(f"{self.uid}-{run.name}-{number}", spec)
        except UnavailableImage as error:
            self._no_image(run, error, now)
            return
        except NotConfigured as error:
            run.cannot_start("CreateContainerConfigError", str(error), now + _RETRY_S)
            self._say("Warning", "Failed", f"Error: {error}")
            return
        except (CannotMount, OSError) as error:
            run.cannot_start("CreateContainerError", str(error), now + _RETRY_S)
            self._say("Warning", "FailedMount", str(error))
            return
        run.begin()
        if group.lacking:
            message = f"Limits of container {run.name} are not enforced: {group.lacking}"
            self._say_once("Warning", "LimitsNotEnforced", message)
        self._say("Normal", "Pulled", f'Container image "{spec.get("image", "")}" already present on machine')
        environment = {
            "PATH": f"{_IMAGES_PATH}:{TOOLS}/bin",
            "HOME": "/root",
            "HOSTNAME": self.place.hostname,
            **variables,
        }
        terminal = bool(spec.get("tty"))
        if terminal:
            environment.setdefault("TERM", "xterm")
        stdin: Stdin = ("once" if spec.get("stdinOnce") else "always") if spec.get("stdin") else ""
        program = Program(
            argv,
            environment,
            str(spec.get("workingDir") or "/"),
            mounts,
            stdin,
            terminal,
            group.entrances,
            str(spec.get("targetContainerName") or ""),
        )
        tools.containers.run(
            self.key,
            run.name,
            number,
            self.place,
            program,
            lambda process, error: tools.post(lambda: self._started(run, group, process, error)),
            lambda status: tools.post(lambda: self._ended(run, number, group, status)),
        )

    def _no_image(self, run: ContainerRun, error: UnavailableImage, now: float) -> None:
        image = str(run.spec.get("image") or "")
        first = (run.name, image) not in self._said
        self._said.add((run.name, image))
        if first:
            self._say("Normal", "Pulling", f'Pulling image "{image}"')
            self._say("Warning", "Failed", f'Failed to pull image "{image}": {error}')
            self._say("Warning", "Failed", "Error: ErrImagePull")
            run.cannot_start("ErrImagePull", str(error), now + _PULL_RETRY_S)
        else:
            self._say("Normal", "BackOff", f'Back-off pulling image "{image}"')
            self._say("Warning", "Failed", "Error: ImagePullBackOff")
            run.cannot_start("ImagePullBackOff", f'Back-off pulling image "{image}": {error}', None)

    def _started(self, run: ContainerRun, group: Group, process: ContainerProcess | None, error: str) -> None:
        self._tools.touched(self)
        if process is None:
            self._tools.containers.cgroups.remove(group)
            now_s = time.time()
            self._say("Warning", "Failed", f"Error: failed to start container {run.name}: {error}")
            run.runs += 1
            message = f"failed to start container: {error}"
            ended = Terminated(128, now_s, now_s, "StartError", message)
            run.has_ended(ended, self._policy, time.monotonic(), self._who)
            return
        self._processes[run.name] = process
        run.is_running(process.pid, time.time())
        self._say("Normal", "Created", f"Created container: {run.name}")
        self._say("Normal", "Started", f"Started container {run.name}")
        if self.stage != "up":
            # The pod ends, or the namespaces that it was started in have ended already.
            self.stop_container(run, self._left_s if self.stage == "ending" else 0.0)
            return
        if has_probe(run.spec):
            self._tools.prober.watch(self.pod, run.spec, run.runs)
        hook = (run.spec.get("lifecycle") or {}).get("postStart")
        if hook:
            number = run.runs
            self._hook(run, hook, 60.0, lambda passed, text: self._post_started(run, number, passed, text))

    def _post_started(self, run: ContainerRun, number: int, passed: bool, text: str) -> None:
        if passed or run.runs != number or not isinstance(run.state, Running):
            return
        self._say("Warning", "FailedPostStartHook", f"PostStartHook failed: {text}")
        self._say("Normal", "Killing", f"FailedPostStartHook: stopping container {run.name}")
        self.stop_container(run, self._grace_s)

    def _ended(self, run: ContainerRun, number: int, group: Group, status: int) -> None:
        self._tools.touched(self)
        out_of_memory = group.has_run_out_of_memory
        self._tools.containers.cgroups.remove(group)
        if run.runs != number:
            return
        self._tools.prober.forget(self.uid, run.name)
        self._stopping.discard(run.name)
        began_s = run.state.started_at if isinstance(run.state, Running) else self._start_s
        ended = terminated(status, began_s, time.time(), out_of_memory=out_of_memory)
        if run.name in self._lost:
            self._lost.discard(run.name)
            run.backoff = Backoff(run.backoff.base_s)  # it has not failed, and is not made to wait
        run.has_ended(ended, self._policy, time.monotonic(), self._who)
        shutil.rmtree(self.folder / f"{run.name}-{number}", ignore_errors=True)
        if self.stage == "up" and run.due is not None and run.due > time.monotonic():
            message = f"Back-off restarting failed container {run.name} in pod {self._who}"
            self._say("Warning", "BackOff", message)

    def take(self, verdict: Verdict) -> None:
        """A probe has been answered."""
        run = next((run for run in self.runs if run.name == verdict.container), None)
        if run is None or self.stage != "up" or run.runs != verdict.run or not isinstance(run.state, Running):
            return
        self._tools.touched(self)
        if not verdict.passed:
            self._say("Warning", "Unhealthy", f"{verdict.kind.title()} probe failed: {verdict.message}")
        if not verdict.changed:
            return
        if verdict.kind == "readiness":
            run.ready = verdict.passed and run.started
        elif verdict.passed:
            run.started = True
            run.ready = "readinessProbe" not in run.spec
        elif run.name not in self._stopping:
            message = f"Container {run.name} failed {verdict.kind} probe, will be restarted"
            self._say("Normal", "Killing", message)
            probe = run.spec[f"{verdict.kind}Probe"]
            self.stop_container(run, float(probe.get("terminationGracePeriodSeconds") or self._grace_s))

    # -- down ----------------------------------------------------------------------------------------------------

    def end(self, grace_s: float) -> None:
        """End the pod: its programs are asked to end, and killed after so many seconds. May come again, with less."""
        deadline = time.monotonic() + grace_s
        if self.stage == "ended" or deadline >= self._deadline:
            return
        first = self.stage != "ending"
        self._deadline = deadline
        self._tools.prober.forget(self.uid)
        if first and self.stage == "new":
            self.stage = "ending"
            self._tools.touched(self)
            return
        self.stage = "ending"
        for run in self.runs:
            if isinstance(run.state, Running):
                if first:
                    self._say("Normal", "Killing", f"Stopping container {run.name}")
                self.stop_container(run, grace_s)
        self._tools.touched(self)

    def stop_container(self, run: ContainerRun, grace_s: float) -> None:
        """Its preStop hook, then SIGTERM to its first process, and SIGKILL to all when the time is over."""
        process = self._processes.get(run.name)
        if process is None or process.returncode is not None:
            return
        if grace_s <= 0:
            self._tools.containers.signal([process], signal.SIGKILL, group=True)
            return
        first = run.name not in self._stopping
        self._stopping.add(run.name)
        self._tools.prober.forget(self.uid, run.name)

        tools = self._tools

        def kill() -> None:  # which keeps the process in memory until then, and not the whole pod
            tools.containers.signal([process], signal.SIGKILL, group=True)

        tools.at(time.monotonic() + grace_s, kill)
        if not first:
            return
        hook = (run.spec.get("lifecycle") or {}).get("preStop")
        if hook:
            self._hook(run, hook, grace_s, lambda passed, text: self._pre_stopped(run, process, passed, text))
        else:
            self._terminate(run, process)

    def _pre_stopped(self, run: ContainerRun, process: ContainerProcess, passed: bool, text: str) -> None:
        if not passed:
            self._say("Warning", "FailedPreStopHook", f"PreStopHook failed: {text}")
        self._terminate(run, process)

    def _terminate(self, run: ContainerRun, process: ContainerProcess) -> None:
        name = str((run.spec.get("lifecycle") or {}).get("stopSignal") or "SIGTERM")
        number = signal.Signals.__members__.get(name, signal.SIGTERM)
        self._tools.containers.signal([process], int(number))

    def _end_if_empty(self) -> None:
        """The namespaces end after the last container; those that are being made have to be there first."""
        if self._sandbox_asked or any(run.under_way or isinstance(run.state, Running) for run in self.runs):
            return
        if self._sandbox is not None:
            self._tools.containers.signal([self._sandbox], signal.SIGKILL)
            return
        self.stage = "ended"

    def clean_up(self) -> None:
        """Remove what the pod has left."""
        self._tools.containers.forget(self.key, [run.name for run in self.runs])
        shutil.rmtree(self.folder, ignore_errors=True)
        self.place.remove()

    # -- changes -------------------------------------------------------------------------------------------------

    def changed(self, pod: JsonObject) -> None:
        """The pod's object is another now. Of what is in it, only images can change, and labels and annotations."""
        before, self.pod = self.pod, pod
        texts = ("labels", "annotations")
        if self.stage == "up" and any(before["metadata"].get(name) != pod["metadata"].get(name) for name in texts):
            update_volumes(pod, self.folder / "volumes", self._lookup)
        if pod["spec"].get("readinessGates"):
            self._tools.touched(self)  # others say whether they are open
        if before["spec"] == pod["spec"]:
            return
        self.runs += ephemeral_runs(pod["spec"], {run.name for run in self.runs})
        specs = {
            container["name"]: container
            for container in (*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ()))
        }
        for run in self.runs:
            spec = specs.get(run.name, run.spec)
            image_changed = spec.get("image") != run.spec.get("image")
            run.spec = spec
            if image_changed and isinstance(run.state, Running):
                message = f"Container {run.name} definition changed, will be restarted"
                self._say("Normal", "Killing", message)
                self.stop_container(run, self._grace_s)
            elif image_changed and not run.under_way and run.state is not None:
                run.due = 0.0 if not isinstance(run.state, Terminated) else run.due
        self._tools.touched(self)

    def sources_changed(self) -> None:
        """A ConfigMap or Secret that the pod names has changed."""
        if self.stage in ("making", "up"):
            update_volumes(self.pod, self.folder / "volumes", self._lookup)
        for run in self.runs:
            if run.due is not None and not run.runs:
                run.due = 0.0
        self._tools.touched(self)

    # -- parts ---------------------------------------------------------------------------------------------------

    @property
    def _policy(self) -> str:
        return str(self.pod["spec"].get("restartPolicy") or "Always")

    @property
    def _grace_s(self) -> float:
        return float(self.pod["spec"].get("terminationGracePeriodSeconds", 30))

    @property
    def _left_s(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    @property
    def _who(self) -> str:
        return f"{object_name(self.pod)}_{object_namespace(self.pod)}({self.uid})"

    def _lookup(self, kind: Kind, name: str) -> JsonObject | None:
        return self._tools.lookup(object_namespace(self.pod), kind, name)

    def _say(self, event_type: EventType, reason: str, message: str) -> None:
        self._tools.events.record(self.pod, event_type, reason, message)

    def _say_once(self, event_type: EventType, reason: str, message: str) -> None:
        if (reason, message) not in self._said:
            self._said.add((reason, message))
            self._say(event_type, reason, message)

    def _hook(self, run: ContainerRun, hook: JsonObject, limit_s: float, done: Callable[[bool, str], None]) -> None:
        """Run a lifecycle hook; ``done`` is called in the kubelet's thread."""
        if "exec" in hook:
            self.execute(run.name, hook["exec"].get("command") or [], limit_s, done)
        elif "httpGet" in hook:
            wanted = hook["httpGet"]
            pod_ip = str((self.pod.get("status") or {}).get("podIP", ""))
            post = self._tools.post
            ask_page(self.node_name, pod_ip, run.spec, wanted, limit_s, lambda ok, text: post(lambda: done(ok, text)))
        elif "sleep" in hook:
            self._tools.at(time.monotonic() + float(hook["sleep"].get("seconds", 0)), lambda: done(True, ""))
        else:
            done(True, "")

    def execute(
        self, container: str, command: Sequence[str], limit_s: float, done: Callable[[bool, str], None]
    ) -> None:
        """Run a program beside a container's own, and tell whether it succeeded within the time, and what it said."""
        tools = self._tools
        output = self.folder / f"output-{container}-{time.monotonic_ns()}"
        state: dict[str, bool] = {}

        def finish(passed: bool, text: str) -> None:
            if "over" in state:
                return
            state["over"] = True
            said = ""
            with suppress(OSError):
                with output.open("rb") as file:
                    said = file.read(_HOOK_OUTPUT_BYTES).decode(errors="replace").strip()
                output.unlink()
            done(passed, said or text)

        def started(process: ContainerProcess | None, error: str) -> None:
            if process is None:
                finish(False, error)
                return

            def give_up() -> None:
                if process.returncode is None:
                    tools.containers.signal([process], signal.SIGKILL, group=True)
                    finish(False, f'command "{" ".join(command)}" timed out')

            tools.at(time.monotonic() + limit_s, give_up)

        tools.containers.execute(
            self.key,
            container,
            command,
            output,
            lambda process, error: tools.post(lambda: started(process, error)),
            lambda status: tools.post(lambda: finish(status == 0, f"exit status {status}")),
        )
