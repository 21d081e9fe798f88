"""What an experiment compares: the one notion that the plan decides, run.json carries and the analysis reads.

It stands apart from all rooms, as the analysis reads stored results and knows nothing of what made them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

By = Literal["mode", "proxy", "path"]
# Arms that are no treatment: one executed again (A/A), and routed at the overlay's MTU.
Control = Literal["", "aa", "mtu"]


@dataclass(frozen=True)
class Treatment:
    """One arm as the analysis needs to know it. ``arm`` is its name, unique in the run."""

    arm: str
    mode: str
    proxy: str
    control: Control = ""

    def document(self) -> dict[str, Any]:
        """The values for run.json."""
        return asdict(self)


@dataclass(frozen=True)
class Contrast:
    """A ratio: ``numerator`` over ``denominator``, which are names for people, and where the figures of each come from.

    ``numerator_path`` and ``denominator_path`` are "" where the ratio is taken on every path, the same on both sides.
    ``noise``: the arm that executes the denominator once more, and the arm of the denominator: their ratio differs from
    1 by noise alone. ``within`` names what both sides have in common, where the run has several of it. ``headline``:
    the question of the experiment, not a part of its answer.
    """

    by: By
    numerator: str
    denominator: str
    numerator_arm: str
    denominator_arm: str
    noise: tuple[str, str]
    numerator_path: str = ""
    denominator_path: str = ""
    within: str = ""
    headline: bool = True

    def document(self) -> dict[str, Any]:
        """The values for run.json."""
        return {**asdict(self), "noise": list(self.noise)}

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> Contrast:
        """The inverse of :meth:`document`."""
        return cls(**{**document, "noise": tuple(document["noise"])})
