"""What is no error in an experiment, and yet will keep it from saying anything."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from testbed.spec.endpoints import Target, parse_target
from testbed.spec.manifests import Manifest
from testbed.spec.manifests.ports import protocol_of
from testbed.spec.models import Experiment, Probe
from testbed.spec.source import Document

# Verdicts need this many rounds, and the primary family together has this chance of a false claim (design rule 8).
_CONCLUSIVE_ROUNDS = 8
_SIGNIFICANCE = 0.05


def experiment_warnings(document: Document, experiment: Experiment, manifests: Sequence[Manifest]) -> Iterator[str]:
    """Too few rounds for a verdict, or nothing that a verdict could be about."""
    if not experiment.probes or experiment.compared == "nothing":
        return
    if experiment.compared == "mode" and len(experiment.modes) == 1:
        message = "one mode, one proxy and no baseline: nothing is compared, so nothing gets a verdict"
        yield str(document.problem(("modes",), message, list(experiment.modes)))
        return
    size = primary_family_size(experiment, manifests)
    if experiment.rounds < _CONCLUSIVE_ROUNDS:
        message = f"fewer than {_CONCLUSIVE_ROUNDS} rounds: every verdict will be inconclusive"
        yield str(document.problem(("rounds",), message, experiment.rounds))
    elif size * 2.0 ** (1 - experiment.rounds) >= _SIGNIFICANCE:
        # The smallest p-value of r rounds is 2 / 2**r, and Holm multiplies the smallest of m by m.
        needed = math.floor(math.log2(2 * size / _SIGNIFICANCE)) + 1
        message = f"too few rounds for {size} primary comparisons: none can reach p < {_SIGNIFICANCE} together"
        yield str(document.problem(("rounds",), message, experiment.rounds, f"at least {needed}, or fewer comparisons"))


def primary_family_size(experiment: Experiment, manifests: Sequence[Manifest]) -> int:
    """How many ratios get a verdict together: the primary probe's, over builds, payloads, paths and treatments."""
    probe = experiment.primary_probe
    if probe is None or experiment.compared == "nothing":
        return 0
    modes, proxies = len(experiment.modes), len(experiment.proxies)
    if experiment.compared == "mode":
        treatments = proxies if modes > 1 else 0
    elif experiment.compared == "proxy":
        treatments = modes * (proxies - 1)
    else:
        treatments = modes * proxies
    figures = sum(
        _figures(probe, parse_target(experiment.paths[path].target), manifests)
        for path in compared_paths(experiment, probe)
    )
    if probe.kind == "program" and experiment.compared != "path":
        figures = 1  # of the whole cluster
    return len(experiment.builds) * len(probe.payloads) * treatments * figures


def _figures(probe: Probe, target: Target, manifests: Sequence[Manifest]) -> int:
    """How many figures a cell gives that are compared: the first datagram and the first connection are one each, and
    of a Service there are those that it has a port for."""
    if probe.kind != "first_packet":
        return 1
    service = target.service
    if service is None:
        return 2
    protocols = {
        protocol_of(entry)
        for manifest in manifests
        if (manifest.kind, manifest.namespace, manifest.name) == ("Service", service.namespace, service.name)
        for entry in manifest.spec.get("ports") or ()
        if entry["port"] == target.port
    }
    return len(protocols & {"TCP", "UDP"})


def compared_paths(experiment: Experiment, probe: Probe) -> tuple[str, ...]:
    """The paths of which a probe gives a ratio."""
    if not probe.takes_paths:
        return ()
    own = tuple(probe.paths or experiment.paths)
    if experiment.compared != "path":
        return own
    return tuple(name for name in own if experiment.paths[name].baseline in own)
