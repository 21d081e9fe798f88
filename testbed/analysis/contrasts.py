"""What a run compares, as its run.json says; runs from before there were proxies compare overlay with routed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from testbed.contrast import Contrast, Treatment

# What run.json did not yet say: every mode by OpenFlow, each ratio on every path.
_FORMER_NOISE = ("routed_aa", "routed")
_FORMER_TREATMENTS = (
    Treatment("overlay", "overlay", "openflow"),
    Treatment("routed", "routed", "openflow"),
    Treatment("routed_aa", "routed", "openflow", "aa"),
    Treatment("routed_overlay_mtu", "routed", "openflow", "mtu"),
)
_FORMER_PAIRS = (("overlay", "routed"), ("overlay", "routed_overlay_mtu"), ("routed_overlay_mtu", "routed"))
_FORMER_CONTRASTS = tuple(
    Contrast("mode", above, below, above, below, _FORMER_NOISE, headline=(above, below) == _FORMER_PAIRS[0])
    for above, below in _FORMER_PAIRS
)


@dataclass(frozen=True)
class Plan:
    """The arms of a run, in the order in which they are listed, and what is compared with what."""

    treatments: tuple[Treatment, ...]
    contrasts: tuple[Contrast, ...]

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of all arms."""
        return tuple(treatment.arm for treatment in self.treatments)

    @property
    def own_arms(self) -> tuple[str, ...]:
        """Those that are no controls."""
        return tuple(treatment.arm for treatment in self.treatments if not treatment.control)

    def treatment(self, arm: str) -> Treatment:
        """What an arm is. One that the plan does not know is a mode of its own name."""
        return next((each for each in self.treatments if each.arm == arm), Treatment(arm, arm, "openflow"))

    def order(self, arms: Iterable[str]) -> list[str]:
        """The arms in the order of the plan, unknown ones last."""
        found = set(arms)
        return [arm for arm in self.arms if arm in found] + sorted(found - {*self.arms})

    @property
    def question(self) -> str:
        """What is compared, in words: ``overlay against routed``, ``iptables and nftables against openflow``."""
        below: dict[str, list[str]] = {}
        for contrast in self.contrasts:
            if contrast.headline:
                names = below.setdefault(contrast.denominator, [])
                if contrast.numerator not in names:
                    names.append(contrast.numerator)
        return "; ".join(f"{_listed(names)} against {denominator}" for denominator, names in below.items())


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def plan_of(run: Mapping[str, Any]) -> Plan:
    """The plan in a run.json."""
    plan = run.get("plan") or {}
    if "contrasts" not in plan:
        return Plan(_FORMER_TREATMENTS, _FORMER_CONTRASTS)
    return Plan(
        tuple(Treatment(**entry) for entry in plan["treatments"]),
        tuple(Contrast.read(entry) for entry in plan["contrasts"]),
    )


def complete_former_summary(document: dict[str, Any]) -> dict[str, Any]:
    """A summary.json from before there were proxies, or events that cost, with what is said since."""
    if "counts" in document:
        return {"events": [], **document}
    former = Plan(_FORMER_TREATMENTS, _FORMER_CONTRASTS)
    arms = [
        {"proxy": "openflow", "control": former.treatment(entry["arm"]).control, **entry} for entry in document["arms"]
    ]
    comparisons = [
        {
            "by": "mode",
            "within": "",
            "mode": None,
            "proxy": "openflow",
            "headline": (entry["numerator"], entry["denominator"]) == _FORMER_PAIRS[0],
            "numerator_arm": entry["numerator"],
            "denominator_arm": entry["denominator"],
            "denominator_path": entry["path"],
            **entry,
        }
        for entry in document["comparisons"]
    ]
    question = former.question if comparisons else ""
    return {
        **document,
        "question": question,
        "arms": arms,
        "comparisons": comparisons,
        "counts": [],
        "stale": [],
        "events": [],
    }
