"""Which controller framework is used: Ryu, or its maintained fork os-ken, which has the same modules."""

from __future__ import annotations

import os
from importlib.util import find_spec

from testbed.errors import MachineError

ENVIRONMENT_VARIABLE = "TESTBED_OPENFLOW"
PACKAGES = {"ryu": "ryu", "os-ken": "os_ken"}


def library_name() -> str:
    """``ryu`` or ``os-ken``: what ``TESTBED_OPENFLOW`` says, otherwise Ryu where it is installed.

    Raises MachineError when the variable names something else, or what it names is not installed.
    """
    name = os.environ.get(ENVIRONMENT_VARIABLE) or ("ryu" if find_spec("ryu") else "os-ken")
    if name not in PACKAGES:
        raise MachineError(f"{ENVIRONMENT_VARIABLE} is {name!r}, but must be one of {', '.join(PACKAGES)}")
    if find_spec(PACKAGES[name]) is None:
        raise MachineError(f"the controller framework {name} is not installed: pip install {name}")
    return name
