"""Times of day, month and week in cron's form, with the rules of Kubernetes' CronJobs
(https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#schedule-syntax, github.com/robfig/cron)."""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo

_MACROS = {
    **dict.fromkeys(("@yearly", "@annually"), "0 0 1 1 *"),
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    **dict.fromkeys(("@daily", "@midnight"), "0 0 * * *"),
    "@hourly": "0 * * * *",
}
_MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if number}
_DAYS = {name.lower(): (number + 1) % 7 for number, name in enumerate(calendar.day_abbr)}
_FIELDS: tuple[tuple[str, range, dict[str, int]], ...] = (
    ("minute", range(60), {}),
    ("hour", range(24), {}),
    ("day of the month", range(1, 32), {}),
    ("month", range(1, 13), _MONTHS),
    ("day of the week", range(7), _DAYS),
)
_FAR = timedelta(days=5 * 366)  # whoever has no time in five years (30 February) has none at all


@dataclass(frozen=True)
class Schedule:
    """Moments that are on the full minute. ``any_day`` tells that one of the two kinds of days is every day; otherwise
    either is enough."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool

    def next_after(self, at_s: float, zone: tzinfo = timezone.utc) -> float | None:
        """The first moment after one, in seconds since the epoch; None when there never is one."""
        first = datetime.fromtimestamp(at_s, zone).replace(tzinfo=None, second=0, microsecond=0)
        wall, end = first + timedelta(minutes=1), first + _FAR
        while wall < end:
            if wall.month not in self.months or not self._is_day(wall):
                wall = wall.replace(hour=0, minute=0) + timedelta(days=1)
            elif wall.hour not in self.hours:
                wall = wall.replace(minute=0) + timedelta(hours=1)
            elif wall.minute not in self.minutes:
                wall += timedelta(minutes=1)
            else:
                found = wall.replace(tzinfo=zone).timestamp()
                # An hour that the clocks leave out does not come, and one that they repeat comes once.
                if found > at_s and datetime.fromtimestamp(found, zone).replace(tzinfo=None) == wall:
                    return found
                wall += timedelta(minutes=1)
        return None

    def _is_day(self, wall: datetime) -> bool:
        by_month, by_week = wall.day in self.days, wall.isoweekday() % 7 in self.weekdays
        return by_month and by_week if self.any_day else by_month or by_week


def parse_schedule(text: str) -> Schedule:
    """``30 4 * * mon-fri`` or ``@daily``. Raises ValueError, saying what is wrong."""
    parts = _MACROS.get(text.strip().lower(), text).split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"five fields are needed (minute, hour, day, month, day of the week), not {len(parts)}")
    minutes, hours, days, months, weekdays = (_field(part, *field) for part, field in zip(parts, _FIELDS, strict=True))
    any_day = any(part in ("*", "?") for index in (2, 4) for part in parts[index].split(","))
    return Schedule(minutes, hours, days, months, weekdays, any_day)


def _field(text: str, name: str, allowed: range, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            if first in ("*", "?") and not dash:
                low, high = allowed[0], allowed[-1]
            else:
                low = _number(first, names)
                high = _number(last, names) if dash else allowed[-1] if slash else low
            width = int(step) if slash else 1
        except ValueError:
            raise ValueError(f"{part!r} is no {name}") from None
        if low not in allowed or high not in allowed or low > high or width < 1:
            raise ValueError(f"{part!r} is no {name} from {allowed[0]} to {allowed[-1]}")
        found.update(range(low, high + 1, width))
    return frozenset(found)


def _number(text: str, names: dict[str, int]) -> int:
    if text in names:
        return names[text]
    if not text.isascii() or not text.isdigit():
        raise ValueError(text)
    return int(text)
