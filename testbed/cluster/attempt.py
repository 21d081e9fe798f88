"""How the loops do what may fail: one object's trouble is logged and ends nothing else."""

from __future__ import annotations

import logging
from collections.abc import Callable

from testbed.cluster.objects import JsonObject, object_name, object_namespace
from testbed.cluster.status import AlreadyExists, ApiError, Conflict, NotFound

_log = logging.getLogger(__name__)


def attempt(wire: JsonObject, act: Callable[[], object]) -> None:
    """Do something about an object of the store.

    That it has changed or gone meanwhile is no error: the event that says so is on its way. The store keeps objects
    that no schema has checked, so reading one may fail, too.
    """
    try:
        act()
    except (NotFound, AlreadyExists, Conflict) as error:
        _log.debug("%s %s/%s: %s", wire.get("kind"), object_namespace(wire), object_name(wire), error)
    except (ApiError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        _log.warning("%s %s/%s: %r", wire.get("kind"), object_namespace(wire), object_name(wire), error)
