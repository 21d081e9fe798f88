"""What the packets captured on the fabric prove, per build, path and arm."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from testbed.analysis.load import Results


def evidence_summary(results: Results, measured: pd.DataFrame) -> list[dict[str, Any]]:
    """One entry per (build, path, arm) that was measured in a valid round.

    ``measured`` has the columns build, round, attempt, path, arm and holds the valid cells. Each entry says in how
    many rounds (``ok_rounds`` of ``rounds``) a packet of the measured pods was decoded, lists the ways it took
    through the fabric with how often, and carries one decoded packet as an example. A cell without any evidence
    counts as not proven.
    """
    keys = ["build", "path", "arm"]
    evidence = results.evidence.drop_duplicates([*keys, "round", "attempt"], keep="last")
    # What is compared must be proven; the control arms are shown where evidence was taken of them.
    arms = {*results.plan.own_arms, *(set(evidence["arm"].dropna()) & {*results.plan.arms})}
    wanted = (measured["path"] != "") & measured["arm"].isin(arms)
    cells = measured[wanted][[*keys, "round", "attempt"]].drop_duplicates()
    joined = cells.merge(evidence, on=[*keys, "round", "attempt"], how="left")
    entries = []
    order = {path: number for number, path in enumerate(cells["path"].unique())}
    arm_order = {arm: number for number, arm in enumerate(results.plan.arms)}
    groups = sorted(joined.groupby(keys, sort=False), key=lambda group: (order[group[0][1]], arm_order[group[0][2]]))
    for (build, path, arm), rows in groups:
        proven = rows[rows["ok"] == True]  # noqa: E712 - a column, elementwise
        missing = rows[rows["ok"] != True]  # noqa: E712
        ways = Counter(" – ".join(way) for way in proven["via"] if isinstance(way, list))
        entries.append(
            {
                "build": build,
                "path": path,
                "arm": arm,
                "rounds": len(rows),
                "ok_rounds": len(proven),
                "packets": int(proven["packets"].fillna(0).sum()),
                "ways": [{"way": way, "rounds": count} for way, count in sorted(ways.items())],
                "example": _example(proven.iloc[0]) if len(proven) else None,
                "problems": sorted({_problem(detail) for detail in missing["detail"]}),
            }
        )
    return entries


def _example(row: pd.Series[Any]) -> dict[str, Any]:
    vni = row["vni"]
    return {
        "round": int(row["round"]),
        "outer": row["outer"] if isinstance(row["outer"], dict) else None,
        "inner": row["inner"] if isinstance(row["inner"], dict) else None,
        "vni": int(vni) if pd.notna(vni) else None,
        "via": row["via"] if isinstance(row["via"], list) else [],
        "detail": row["detail"] if isinstance(row["detail"], str) else "",
    }


def _problem(detail: object) -> str:
    return detail if isinstance(detail, str) and detail else "no evidence was recorded"
