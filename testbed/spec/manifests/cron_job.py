"""batch/v1 CronJob: a schedule, and the Job that it makes again and again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from testbed.cluster.cron_jobs import cron_job_problems, job_template
from testbed.errors import Problem
from testbed.spec.manifests import workload
from testbed.spec.manifests.fields import object_fields
from testbed.spec.manifests.manifest import Manifest

_TEMPLATE = {"metadata": None, "spec": workload.JOB_FIELDS["spec"]}
FIELDS = object_fields(
    spec={
        **dict.fromkeys(("schedule", "timeZone", "suspend", "concurrencyPolicy", "startingDeadlineSeconds")),
        **dict.fromkeys(("successfulJobsHistoryLimit", "failedJobsHistoryLimit")),
        "jobTemplate": _TEMPLATE,
    }
)


def problems(manifest: Manifest) -> Iterator[Problem]:
    """A CronJob."""
    yield from map(manifest.refusal, cron_job_problems(manifest.object))
    job = replace(manifest, object=job_template(manifest.object), path=(*manifest.path, "spec", "jobTemplate"))
    yield from workload.problems(job)
