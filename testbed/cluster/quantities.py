"""Kubernetes' quantities (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/)."""

from __future__ import annotations

import re
from decimal import Decimal

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?)([A-Za-z]*)")
_UNITS = {
    **dict(
        zip(
            ("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), (Decimal(10) ** n for n in range(-9, 19, 3)), strict=True
        )
    ),
    **{f"{name}i": Decimal(1024) ** n for n, name in enumerate(("K", "M", "G", "T", "P", "E"), 1)},
}


def quantity(text: str) -> Decimal:
    """What a quantity says: ``500m`` is 0.5, ``64Mi`` is 67108864. Raises ValueError for what is none."""
    match = _FORM.fullmatch(text.strip())
    if match is None or match[2] not in _UNITS:
        raise ValueError(f"{text!r} is not a quantity")
    return Decimal(match[1]) * _UNITS[match[2]]
