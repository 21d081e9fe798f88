"""What ``check`` says of an experiment that is in order."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.progress import duration_text
from testbed.spec.checked import CheckedExperiment
from testbed.spec.manifests import Manifest
from testbed.spec.models import Experiment
from testbed.spec.warnings import compared_paths, primary_family_size
from testbed.views.words import counted

_MODES = "overlay against routed"


def experiment_text(checked: CheckedExperiment, measuring_s: float) -> str:
    """What is in it, how long measuring takes, and what gets a verdict, in one line."""
    experiment = checked.experiment
    parts = [
        experiment.topology.name,
        counted(len(experiment.builds), "build"),
        counted(checked.pod_count, "pod"),
    ]
    services = sum(manifest.kind == "Service" for manifest in checked.manifests)
    if services:
        parts.append(counted(services, "Service"))
    generated = [build.generate.services for build in experiment.builds if build.generate]
    if generated:
        parts.append(f"{counted(max(generated), 'Service')} generated at most")
    parts += [counted(len(experiment.probes), "probe"), counted(experiment.rounds, "round")]
    parts.append(f"about {duration_text(measuring_s)} of measuring")
    return f"{', '.join(parts)}; {primary_text(experiment, checked.manifests)}"


def primary_text(experiment: Experiment, manifests: Sequence[Manifest]) -> str:
    """Which ratios are the primary family, and whether the file says so."""
    probe = experiment.primary_probe
    size = primary_family_size(experiment, manifests)
    if probe is None or size == 0:
        return "nothing is compared"
    how = "" if experiment.primary else " by default"
    return f"primary{how}: {probe.label}, {_contrast(experiment)}, {counted(size, 'ratio')}"


def _contrast(experiment: Experiment) -> str:
    if experiment.compared == "mode":
        return _MODES
    if experiment.compared == "proxy":
        first, *others = experiment.proxies
        return f"{', '.join(others)} against {first}"
    probe = experiment.primary_probe
    pairs = compared_paths(experiment, probe) if probe else ()
    return ", ".join(f"{name} against {experiment.paths[name].baseline}" for name in pairs)
