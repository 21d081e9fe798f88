"""What holds through any sequence of events: readiness that comes and goes, pods that end, sizes and templates that
change. The pure steps are driven by a kubelet that does anything at any time."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from testbed.cluster import daemon_sets, jobs, stateful_sets
from testbed.cluster.daemon_sets import node_of
from testbed.cluster.deployments import replica_set, rolling_limits, rollout
from testbed.cluster.jobs import Tally
from testbed.cluster.objects import object_name
from testbed.cluster.pod_facts import is_active, is_finished, is_ready, is_terminating, labels_of
from testbed.cluster.replica_sets import replicas_of
from testbed.cluster.revisions import revision_object
from testbed.cluster.templates import REVISION_HASH_LABEL
from testbed.cluster.workload_rules import set_workload_defaults
from tests.unit.cluster_objects import daemon_set, deployment, job, stateful_set

NOW = 1_800_000_000.0


class Pods:
    """The pods of a workload, and a kubelet for them. Each has a uid of its own, so that a name may come again."""

    def __init__(self):
        self.there = {}
        self._made = 0

    def all(self):
        return list(self.there.values())

    def create(self, pods):
        for pod in pods:
            assert object_name(pod) not in self.there, "a name is given twice"
            self._made += 1
            pod["metadata"] |= {"uid": str(self._made), "creationTimestamp": "2026-01-01T00:00:00Z"}
            pod["spec"] = {**pod["spec"], "nodeName": node_of(pod) or "n1"}
            self.there[object_name(pod)] = pod

    def delete(self, pods):
        for pod in pods:
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"

    def do(self, action, number):
        """Let something happen to one of the pods."""
        if not self.there:
            return
        name = sorted(self.there)[number % len(self.there)]
        pod = self.there[name]
        if action == "ended":
            if is_terminating(pod):
                del self.there[name]
        elif action in ("Succeeded", "Failed"):
            pod["status"] = {"phase": action}
        elif not is_finished(pod):
            value = "True" if action == "ready" else "False"
            pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": value}]}

    def do_all(self):
        """Let everything become as it is wanted."""
        for name in list(self.there):
            if is_terminating(self.there[name]):
                del self.there[name]
            else:
                self.do("ready", sorted(self.there).index(name))


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["ready", "ready", "ready", "unready", "ended", "resize", "template"]), st.integers(0, 9)
    ),
    max_size=40,
)


# Deployments


@given(st.integers(1, 10), st.integers(0, 4), st.integers(0, 4), st.data())
@settings(max_examples=150, deadline=None)
def test_a_rolling_update_spares_what_is_needed_whatever_becomes_ready_or_ceases_to_be(wanted, surge, lost, data):
    web = deployment("web", wanted)
    web["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": lost}}
    surge, lost = rolling_limits(web)
    old, new = replica_set(deployment("web", wanted, hostNetwork=True), wanted), replica_set(web, 0)
    for wire, count in ((old, wanted), (new, 0)):
        wire["spec"]["replicas"] = count
        wire["status"] = {"replicas": count, "availableReplicas": count}
    for _ in range(12):
        before = sum(wire["status"]["availableReplicas"] for wire in (old, new))
        target = rollout(web, [old, new])
        assert sum(target.values()) <= max(wanted + surge, replicas_of(old) + replicas_of(new))
        for wire in (old, new):
            size = target[object_name(wire)]
            wire["spec"]["replicas"] = size
            wire["status"] = {"replicas": size, "availableReplicas": min(wire["status"]["availableReplicas"], size)}
        after = sum(wire["status"]["availableReplicas"] for wire in (old, new))
        assert after >= min(before, wanted - lost)
        for wire in (old, new):
            wire["status"]["availableReplicas"] = data.draw(st.integers(0, replicas_of(wire)))


# StatefulSets


@given(st.integers(0, 5), st.booleans(), st.integers(0, 3), ACTIONS)
@settings(max_examples=150, deadline=None)
def test_a_stateful_set_keeps_its_order_and_comes_to_what_is_wanted(replicas, ordered, partition, actions):
    wire = stateful_set("db", replicas, podManagementPolicy="OrderedReady" if ordered else "Parallel")
    wire["spec"]["updateStrategy"] = {"rollingUpdate": {"partition": partition}}
    set_workload_defaults(wire)
    current = update = revision_object(wire, 1)
    pods = Pods()

    def step():
        what = stateful_sets.next_step(wire, current, update, pods.all(), NOW)
        wanted = replicas_of(wire)
        if ordered:
            assert len(what.create) + len(what.delete) <= 1
            for pod in what.create:
                number = stateful_sets.ordinal_of("db", object_name(pod))
                assert all(is_ready(pods.there[f"db-{lower}"]) for lower in range(number))
        for pod in what.delete:
            number = stateful_sets.ordinal_of("db", object_name(pod))
            if number < wanted:  # it is updated: nothing above it is old, or unwell
                assert number >= partition and labels_of(pod)[REVISION_HASH_LABEL] != object_name(update)
                for higher in range(number + 1, wanted):
                    assert is_ready(pods.there[f"db-{higher}"]) and not is_terminating(pods.there[f"db-{higher}"])
            elif ordered:  # it is too many: the last one first
                assert number == max(stateful_sets.ordinal_of("db", name) for name in pods.there)
        pods.create(what.create)
        pods.delete(what.delete)
        return bool(what.create or what.delete)

    for action, number in actions:
        if action == "resize":
            wire["spec"]["replicas"] = number % 6
        elif action == "template":
            wire["spec"]["template"]["metadata"]["labels"]["version"] = str(number)
            update = revision_object(wire, 2)
        else:
            pods.do(action, number)
        step()
    for _ in range(60):
        pods.do_all()
        if not step():
            break
    assert sorted(pods.there) == sorted(f"db-{number}" for number in range(replicas_of(wire)))
    for name, pod in pods.there.items():
        if stateful_sets.ordinal_of("db", name) >= partition:
            assert labels_of(pod)[REVISION_HASH_LABEL] == object_name(update)


# DaemonSets

NODE_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["ready", "ready", "ready", "unready", "ended", "template", "taint", "Failed"]),
        st.integers(0, 9),
    ),
    max_size=40,
)


@given(st.integers(1, 4), st.integers(0, 2), st.integers(0, 2), NODE_ACTIONS)
@settings(max_examples=150, deadline=None)
def test_a_daemon_set_comes_to_one_pod_a_node_and_spares_what_is_needed_on_the_way(count, surge, lost, actions):
    wire = daemon_set("agent", updateStrategy={"rollingUpdate": {"maxSurge": surge, "maxUnavailable": lost}})
    set_workload_defaults(wire)
    most_lost = lost if surge or lost else 1
    nodes = {f"n{i}": {"metadata": {"name": f"n{i}"}, "spec": {}} for i in range(1, count + 1)}
    pods = Pods()

    def eligible():
        return [name for name, node in nodes.items() if daemon_sets.wants(wire, node)[0]]

    def served():
        ready = [pod for pod in pods.all() if is_ready(pod) and not is_terminating(pod)]
        return {node_of(pod) for pod in ready} & set(eligible())

    def step(now_s=NOW):
        before = served()
        what = daemon_sets.next_step(wire, nodes, pods.all(), now_s, pods.there)
        pods.delete(what.delete)
        lacking = len(eligible()) - len(served())
        # What is taken away is only what was of no use, or what can be spared.
        assert len(served()) == len(before) or lacking <= (0 if surge else most_lost)
        pods.create(what.create)
        return bool(what.create or what.delete)

    for action, number in actions:
        if action == "template":
            wire["spec"]["template"]["metadata"]["labels"]["version"] = str(number)
        elif action == "taint":
            spec = nodes[f"n{number % count + 1}"]["spec"]
            effect = "NoSchedule" if number % 2 else "NoExecute"
            spec["taints"] = [] if spec.get("taints") else [{"key": "a", "effect": effect}]
        else:
            pods.do(action, number)
        step()
        for name in nodes:
            alive = [pod for pod in pods.all() if node_of(pod) == name and is_active(pod)]
            assert len(alive) <= (2 if surge else 1)
    for node in nodes.values():
        node["spec"] = {}
    for _ in range(60):
        pods.do_all()
        if not step():
            break
    digest = daemon_sets.template_hash(wire)
    assert sorted(map(node_of, pods.all())) == sorted(nodes)
    assert {labels_of(pod)[REVISION_HASH_LABEL] for pod in pods.all()} == {digest}


# Jobs


@given(
    st.one_of(st.none(), st.integers(0, 5)),
    st.integers(0, 4),
    st.integers(0, 3),
    st.lists(st.tuples(st.sampled_from(["ready", "Succeeded", "Failed", "forget"]), st.integers(0, 9)), max_size=40),
)
@settings(max_examples=150, deadline=None)
def test_a_job_never_runs_more_than_it_may_and_ends_when_it_should(completions, parallelism, limit, actions):
    wire = job("sum", parallelism=parallelism, backoffLimit=limit)
    if completions is not None:
        wire["spec"]["completions"] = completions
    wire["metadata"]["uid"] = "1"
    set_workload_defaults(wire)
    pods, succeeded, failed, now_s = Pods(), set(), set(), NOW

    def step():
        for pod in pods.all():
            if is_finished(pod):
                (failed if pod["status"]["phase"] == "Failed" else succeeded).add(pod["metadata"]["uid"])
        what = jobs.next_step(wire, pods.all(), Tally(len(succeeded), len(failed)), now_s, pods.there)
        pods.create(what.create)
        for pod in what.delete:
            del pods.there[object_name(pod)]
        wire["status"] = what.status
        active = sum(map(is_active, pods.all()))
        assert active <= parallelism
        if completions is not None:
            assert active <= max(0, completions - len(succeeded))
        if jobs.is_over(wire):
            assert active == 0
            over = wire["status"]["conditions"][-1]["type"]
            assert (over == "Failed") == (len(failed) > limit)
            assert over == "Failed" or len(succeeded) >= (1 if completions is None else completions)
        return jobs.is_over(wire)

    for action, number in actions:
        now_s += 400  # longer than any delay
        if step():
            return
        if action == "forget":  # somebody deletes a pod that has ended
            gone = [name for name, pod in sorted(pods.there.items()) if is_finished(pod)]
            if gone:
                del pods.there[gone[number % len(gone)]]
        elif pods.there and is_active(pods.there[sorted(pods.there)[number % len(pods.there)]]):
            pods.do(action, number)
    if parallelism:
        for _ in range(20):
            now_s += 400
            if step():
                return
            for number in range(len(pods.there)):
                if is_active(pods.there[sorted(pods.there)[number]]):
                    pods.do("Succeeded", number)
        raise AssertionError("it does not end")
