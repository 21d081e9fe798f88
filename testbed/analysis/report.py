"""report.html: the run on one self-contained page, made from the summary and the figures that lie beside it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from testbed.analysis import facts, words
from testbed.analysis.events import sentences
from testbed.analysis.limits import limits
from testbed.analysis.load import Results, load

_LISTED_UP_TO = 3
# Figures in the order of the page: the files' pattern and the text for who does not see the image.
_FIGURES = {
    "ratio.svg": "Ratio per path, with 95% interval and noise floor",
    "sweep_*.svg": "Medians against the number of Services or endpoints",
    "churn_*.svg": "Requests over time while the cluster changes",
    "payload_*.svg": "Median against payload",
    "scaling.svg": "Medians, ratio and flows from build to build",
    "cdf_*.svg": "Distribution of the samples per path",
    "throughput*.svg": "Throughput per arm",
    "shares_*.svg": "Share of the connections per endpoint",
    "rounds_*.svg": "Median of every round over time",
    "ratio_exploratory.svg": "Exploratory ratios with 95% interval and noise floor",
}


def write(directory: str | Path) -> Path:
    """Write the report of a run that has been summarised and drawn; returns the file.

    Raises :class:`testbed.errors.InputError` when the folder holds no summary.
    """
    results = load(directory)
    file = results.directory / "report.html"
    file.write_text(page(results), encoding="utf-8")
    return file


def page(results: Results) -> str:
    """The page as text."""
    environment = Environment(
        loader=PackageLoader("testbed.analysis", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["flat"] = _flat
    document = results.document
    comparisons = document["comparisons"]
    primary = [entry for entry in comparisons if entry["role"] == "primary"]
    exploratory = [entry for entry in comparisons if entry["role"] == "exploratory"]
    figures = _figures(results.directory / "plots")
    return environment.get_template("report.html.j2").render(
        summary=document,
        experiment=results.experiment,
        beside=facts.kernel_path(document),
        machine=facts.machine(results.environment, None),
        command=" ".join(map(str, results.run.get("command") or ())),
        primary=primary,
        exploratory=exploratory,
        names=words.varying(comparisons),
        arms_vary=words.varying(document["arms"]),
        headline=[figure for figure in figures if figure["name"] == "ratio"],
        figures=[figure for figure in figures if figure["name"] != "ratio"],
        environment=_environment(results.environment),
        limits=limits(document, results.environment, results.experiment),
        path_text=lambda path: facts.path_text(results.experiment, path),
        sides=words.sides(primary),
        value=lambda entry, side: words.with_unit(words.side_value(document, entry, side), entry["metric"]),
        words=words,
        happened=sentences(document["events"]),
    )


def _figures(directory: Path) -> list[dict[str, str]]:
    """The figures as data URIs. As images, not inline: the ids inside of several SVGs would collide on one page."""
    return [
        {
            "name": file.stem,
            "alternative": alternative,
            "uri": f"data:image/svg+xml;base64,{base64.b64encode(file.read_bytes()).decode('ascii')}",
        }
        for pattern, alternative in _FIGURES.items()
        for file in sorted(directory.glob(pattern))
    ]


def _environment(environment: Mapping[str, Any]) -> dict[str, str]:
    """What was recorded of the machine, one line a fact; warnings stand among the limits."""
    facts = {key: value for key, value in environment.items() if key not in ("format", "warnings", "builds")}
    builds = environment.get("builds") or {}
    if len(builds) > 1:
        facts["ports_per_vswitchd"] = {name: build.get("ports_per_vswitchd") for name, build in builds.items()}
    return {key.replace("_", " "): _flat(value) for key, value in facts.items() if value not in (None, "", [], {})}


def _flat(value: Any) -> str:
    """A nested value in one line: ``overlay: 1450, routed: 1500``; many equal ones as ``no (all 40)``."""
    if isinstance(value, Mapping):
        texts = {key: _flat(item) for key, item in value.items() if item is not None}
        if len(texts) > _LISTED_UP_TO and len(set(texts.values())) == 1:
            return f"{next(iter(texts.values()))} (all {len(texts)})"
        return ", ".join(
            f"{key}: {f'({text})' if isinstance(value[key], Mapping) else text}" for key, text in texts.items()
        )
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_flat, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)
