"""Figures of a stored run, each as SVG and PNG."""

from __future__ import annotations

from pathlib import Path

from testbed.analysis.plots.cdf import cdf_figures
from testbed.analysis.plots.churn import churn_figures
from testbed.analysis.plots.data import PlotData
from testbed.analysis.plots.payload import payload_figures
from testbed.analysis.plots.ratio import ratio_figures
from testbed.analysis.plots.rounds import rounds_figures
from testbed.analysis.plots.scaling import scaling_figures
from testbed.analysis.plots.shares import shares_figures
from testbed.analysis.plots.style import save, styled
from testbed.analysis.plots.sweep import sweep_figures
from testbed.analysis.plots.throughput import throughput_figures

# In the order in which the report shows them.
_KINDS = (
    ratio_figures,
    sweep_figures,
    churn_figures,
    payload_figures,
    scaling_figures,
    cdf_figures,
    throughput_figures,
    shares_figures,
    rounds_figures,
)


def draw(directory: str | Path) -> list[Path]:
    """Draw every figure that the run in ``directory`` has data for into its ``plots/``; returns the files.

    The run must have been summarised. Raises :class:`testbed.errors.InputError` if it was not.
    """
    data = PlotData.read(directory)
    target = data.results.directory / "plots"
    target.mkdir(exist_ok=True)
    files: list[Path] = []
    with styled():
        for figures in _KINDS:
            for name, figure in figures(data):
                files += save(figure, target, name)
    return files
