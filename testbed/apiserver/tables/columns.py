"""What a table is made of: columns, and for each object a row of cells; and texts that many cells share."""

from __future__ import annotations

import calendar
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from testbed.cluster.objects import JsonObject

NONE, UNKNOWN = "<none>", "<unknown>"


class Column(NamedTuple):
    """One column; ``wide`` ones are shown by ``-o wide`` only."""

    name: str
    description: str
    type: str = "string"
    wide: bool = False

    def definition(self) -> JsonObject:
        """The column in wire form (meta/v1 TableColumnDefinition)."""
        return {
            "name": self.name,
            "type": self.type,
            "format": "name" if self.name == "Name" and not self.wide else "",
            "description": self.description,
            "priority": int(self.wide),
        }


class Layout(NamedTuple):
    """The table of one kind. ``cells`` gives an object's cells at a time (seconds since 1970)."""

    columns: Sequence[Column]
    cells: Callable[[JsonObject, float], list[Any]]


NAME = Column("Name", "The object's name, unique within its namespace.")
AGE = Column("Age", "How long ago the object was created.")
CONTAINERS = Column("Containers", "The names of the template's containers.", wide=True)
IMAGES = Column("Images", "The images of the template's containers.", wide=True)
SELECTOR = Column("Selector", "The labels of the pods that belong to it.", wide=True)


def age(wire: JsonObject, now: float) -> str:
    """How old an object is."""
    return since(wire["metadata"].get("creationTimestamp"), now)


def since(timestamp: Any, now: float) -> str:
    """How long ago a time in wire form was; ``<unknown>`` without one."""
    seconds = seconds_of(timestamp)
    return UNKNOWN if seconds is None else duration(now - seconds)


def seconds_of(timestamp: Any) -> float | None:
    """A time in wire form (RFC 3339, UTC) as seconds since 1970; None when there is none."""
    if not isinstance(timestamp, str):
        return None
    try:
        return float(calendar.timegm(time.strptime(timestamp[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None


_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_YEAR = 365 * _DAY


def duration(seconds: float) -> str:
    """A length of time in at most two units, the finer one only while it matters, as Kubernetes shows it."""
    whole = int(seconds)
    if seconds < -1:
        return "<invalid>"
    if whole < 2 * _MINUTE:
        return f"{max(0, whole)}s"
    for limit, unit, sign, finer, finer_sign in (
        (10 * _MINUTE, _MINUTE, "m", 1, "s"),
        (3 * _HOUR, _MINUTE, "m", 0, ""),
        (8 * _HOUR, _HOUR, "h", _MINUTE, "m"),
        (2 * _DAY, _HOUR, "h", 0, ""),
        (8 * _DAY, _DAY, "d", _HOUR, "h"),
        (2 * _YEAR, _DAY, "d", 0, ""),
        (8 * _YEAR, _YEAR, "y", _DAY, "d"),
    ):
        if whole < limit:
            rest = whole % unit // finer if finer else 0
            return f"{whole // unit}{sign}" + (f"{rest}{finer_sign}" if rest else "")
    return f"{whole // _YEAR}y"


def spec(wire: JsonObject) -> JsonObject:
    """The object's spec; empty without one."""
    return wire.get("spec") or {}


def status(wire: JsonObject) -> JsonObject:
    """The object's status; empty without one."""
    return wire.get("status") or {}


def containers_text(wire: JsonObject) -> list[str]:
    """Names and images of the containers of an object's pod template."""
    containers = ((spec(wire).get("template") or {}).get("spec") or {}).get("containers") or []
    return [",".join(str(c.get(field, "")) for c in containers) for field in ("name", "image")]


def labels_text(labels: JsonObject | None) -> str:
    """Labels as ``a=b,c=d``."""
    return ",".join(f"{name}={value}" for name, value in sorted((labels or {}).items())) or NONE


def selector_text(selector: JsonObject | None) -> str:
    """A LabelSelector as ``kubectl -l`` takes it."""
    selector = selector or {}
    terms = [f"{name}={value}" for name, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, values = expression.get("key"), ",".join(expression.get("values") or ())
        match expression.get("operator"):
            case "In":
                terms.append(f"{key} in ({values})")
            case "NotIn":
                terms.append(f"{key} notin ({values})")
            case "Exists":
                terms.append(str(key))
            case "DoesNotExist":
                terms.append(f"!{key}")
    return ",".join(terms) or NONE


def first_few(texts: Iterable[str], empty: str) -> str:
    """Up to three, and how many more there are."""
    all_of_them = list(texts)
    shown = ",".join(all_of_them[:3])
    more = len(all_of_them) - 3
    return f"{shown} + {more} more..." if more > 0 else shown or empty


def with_port(address: str, port: object) -> str:
    """An address and a port, the address in brackets when it has colons itself."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
