"""CronJobs: when their time comes, and what is made of them then."""

from __future__ import annotations

from datetime import datetime, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testbed.cluster.cron import parse_schedule
from testbed.cluster.kinds import CRON_JOB, JOB, POD
from testbed.cluster.objects import object_name
from testbed.cluster.pod_facts import is_active
from testbed.cluster.status import Invalid
from tests.unit.cluster_objects import job
from tests.unit.living_cluster import Cluster

NOON_S = datetime(2100, 1, 1, 12, tzinfo=timezone.utc).timestamp()  # a Friday, later than what the store writes


def cron_job(schedule="*/5 * * * *", **spec):
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "hello", "namespace": "default"},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": job("x")["spec"]}, **spec},
    }


class Clock:
    def __init__(self):
        self.now_s = NOON_S - 1

    def __call__(self):
        return self.now_s


def cluster_with(clock, **spec):
    cluster = Cluster(clock=clock)
    # It was made, and looked at, just before noon.
    cluster.store.create({**cron_job(**spec), "status": {"lastScheduleTime": "2100-01-01T11:59:00Z"}})
    return cluster


def at(cluster, clock, minutes, seconds=0.0):
    """Let it be so much after noon, and the loops notice."""
    clock.now_s = NOON_S + 60 * minutes + seconds
    cluster.store.patch(CRON_JOB, "hello", {"metadata": {"annotations": {"now": str(clock.now_s)}}})
    cluster.run_pods()


def jobs(cluster):
    return sorted(map(object_name, cluster.store.list(JOB).items))


def name_at(minutes):
    return f"hello-{int(NOON_S) // 60 + minutes}"


def test_a_job_is_made_at_each_of_its_times_and_the_old_ones_go():
    clock = Clock()
    with cluster_with(clock) as cluster:
        cluster.run_pods()
        assert jobs(cluster) == []
        for minutes in (0, 1, 5, 9, 10, 15, 20):
            at(cluster, clock, minutes)
            for wire in filter(is_active, cluster.pods()):
                cluster.end(object_name(wire))
            cluster.run_pods()
        assert jobs(cluster) == [name_at(minutes) for minutes in (10, 15, 20)]
        made = cluster.store.get(JOB, name_at(20))
        assert (
            made["metadata"]["annotations"]["batch.kubernetes.io/cronjob-scheduled-timestamp"] == "2100-01-01T12:20:00Z"
        )
        status = cluster.store.get(CRON_JOB, "hello")["status"]
        assert status["lastScheduleTime"] == "2100-01-01T12:20:00Z" and "active" not in status
        reasons = {reason for reason, _ in cluster.events(CRON_JOB, "hello")}
        assert reasons == {"SuccessfulCreate", "SuccessfulDelete", "SawCompletedJob"}
        cluster.store.delete(CRON_JOB, "hello")
        cluster.run_pods()
        assert jobs(cluster) == [] and not cluster.store.list(POD).items


@pytest.mark.parametrize(
    ("policy", "there"), [("Allow", [0, 5]), ("Forbid", [0]), ("Replace", [5])], ids=["allow", "forbid", "replace"]
)
def test_a_job_that_still_runs(policy, there):
    clock = Clock()
    with cluster_with(clock, concurrencyPolicy=policy) as cluster:
        at(cluster, clock, 0)
        at(cluster, clock, 5)
        assert jobs(cluster) == [name_at(minutes) for minutes in there]
        active = cluster.store.get(CRON_JOB, "hello")["status"]["active"]
        assert [entry["name"] for entry in active] == jobs(cluster)
        if policy == "Forbid":
            assert "JobAlreadyActive" in dict(cluster.events(CRON_JOB, "hello"))
            cluster.end(object_name(cluster.pods()[0]))
            cluster.run_pods()
            assert name_at(5) in jobs(cluster)  # late, but it still has its turn


def test_of_many_times_that_were_missed_only_the_last_has_its_job():
    clock = Clock()
    with cluster_with(clock, suspend=True) as cluster:
        at(cluster, clock, 24 * 60 * 400)
        assert jobs(cluster) == []
        cluster.store.patch(CRON_JOB, "hello", {"spec": {"suspend": False}})
        cluster.run_pods()
        assert jobs(cluster) == [name_at(24 * 60 * 400)]


def test_what_is_too_late_is_not_started():
    clock = Clock()
    with cluster_with(clock, startingDeadlineSeconds=30) as cluster:
        at(cluster, clock, 4)
        assert jobs(cluster) == []
        at(cluster, clock, 5, 29)
        assert jobs(cluster) == [name_at(5)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schedule": "* * * *"}, r"spec\.schedule: is no schedule: five fields"),
        ({"schedule": "* 24 * * *"}, r"'24' is no hour from 0 to 23"),
        ({"timeZone": "Europe/Atlantis"}, r"spec\.timeZone"),
        ({"timeZone": "../etc/passwd"}, r"spec\.timeZone"),
        ({"concurrencyPolicy": "Maybe"}, r"spec\.concurrencyPolicy"),
        ({"failedJobsHistoryLimit": -1}, r"spec\.failedJobsHistoryLimit"),
        (
            {"jobTemplate": {"spec": job("x", "Always")["spec"]}},
            r"spec\.jobTemplate\.spec\.template\.spec\.restartPolicy",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(change, field):
    with Cluster() as cluster, pytest.raises(Invalid, match=field):
        cluster.store.create(cron_job(**change))


UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")


# From github.com/robfig/cron's spec_test.go, which Kubernetes uses.
@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("0/15 * * * *", (2012, 7, 9, 14, 45), (2012, 7, 9, 15, 0)),
        ("20-35/15 * * * *", (2012, 7, 9, 15, 45), (2012, 7, 9, 16, 20)),
        ("*/15 * * * *", (2012, 7, 9, 23, 46), (2012, 7, 10, 0, 0)),
        ("0 0 */3 * *", (2012, 7, 9, 23, 35), (2012, 7, 10, 0, 0)),
        ("0 0 9 Apr-Oct ?", (2012, 7, 9, 23, 35), (2012, 8, 9, 0, 0)),
        ("0 0 * Feb Mon", (2012, 7, 9, 23, 35), (2013, 2, 4, 0, 0)),
        ("0 0 29 Feb ?", (2012, 7, 9, 23, 35), (2016, 2, 29, 0, 0)),
        ("0 0 1,15 * Sun", (2012, 7, 9, 0, 0), (2012, 7, 15, 0, 0)),
        ("0 0 * * Mon", (2012, 7, 10, 0, 0), (2012, 7, 16, 0, 0)),
        ("0 12 13 * Fri", (2026, 11, 20, 22, 0), (2026, 11, 27, 12, 0)),  # the 13th or any Friday
        ("@daily", (2012, 12, 31, 23, 59), (2013, 1, 1, 0, 0)),
        ("@weekly", (2026, 11, 20, 0, 0), (2026, 11, 22, 0, 0)),
        ("0 0 30 Feb ?", (2012, 7, 9, 23, 35), None),
    ],
)
def test_the_next_time(schedule, after, expected):
    found = parse_schedule(schedule).next_after(datetime(*after, tzinfo=UTC).timestamp())
    assert found == (None if expected is None else datetime(*expected, tzinfo=UTC).timestamp())


def test_an_hour_that_the_clocks_leave_out_does_not_come_and_one_that_they_repeat_comes_once():
    schedule = parse_schedule("30 2 * * *")
    spring = schedule.next_after(datetime(2026, 3, 28, 12, tzinfo=BERLIN).timestamp(), BERLIN)
    assert datetime.fromtimestamp(spring, BERLIN).date().isoformat() == "2026-03-30"
    autumn = schedule.next_after(datetime(2026, 10, 24, 12, tzinfo=BERLIN).timestamp(), BERLIN)
    assert datetime.fromtimestamp(autumn, BERLIN).date().isoformat() == "2026-10-25"
    after = schedule.next_after(autumn, BERLIN)
    assert datetime.fromtimestamp(after, BERLIN).date().isoformat() == "2026-10-26"


@given(st.integers(0, 59), st.integers(0, 23), st.integers(0, 10**9))
def test_each_moment_is_the_first_after_the_one_before(minute, hour, start_s):
    schedule = parse_schedule(f"{minute} {hour} * * *")
    first = schedule.next_after(start_s)
    assert 0 < first - start_s <= 86400
    assert schedule.next_after(first) - first == 86400
