"""The one place that imports the controller framework, Ryu or os-ken.

Importing it patches sockets, ``select`` and ``time`` for eventlet, so only the controller's process may do it, and
before it imports anything that uses them.
"""

from __future__ import annotations

import importlib
import os
import warnings
from types import ModuleType
from typing import Any

from controllers.ryu_app.library import PACKAGES, library_name

_PACKAGE = PACKAGES[library_name()]


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{_PACKAGE}.{name}")


# os-ken's own default is threads, of which each switch would take three that contend for the interpreter.
os.environ.setdefault("OSKEN_HUB_TYPE", "eventlet")
# Nothing here looks up names, and eventlet's own resolver is a third of the time the controller takes to start.
os.environ.setdefault("EVENTLET_NO_GREENDNS", "yes")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # eventlet announces its own deprecation
    _eventlet: Any = importlib.import_module("eventlet")
    hub: Any = _module("lib.hub")
# What the API client and the controller block on. Not threads: no code here uses any.
_eventlet.monkey_patch(socket=True, select=True, time=True)

# Ryu 4.34 imports a name that eventlet dropped in 0.30.3; it is used only by Ryu's web server, which never runs here.
_wsgi: Any = importlib.import_module("eventlet.wsgi")
if not hasattr(_wsgi, "ALREADY_HANDLED"):
    _wsgi.ALREADY_HANDLED = object()

CONF: Any = _module("cfg").CONF
app_manager: Any = _module("base.app_manager")
AppBase: Any = getattr(app_manager, "RyuApp", None) or app_manager.OSKenApp
dispatchers: Any = _module("controller.handler")
ofp_event: Any = _module("controller.ofp_event")
ofp_handler: Any = _module("controller.ofp_handler")
ofproto: Any = _module("ofproto.ofproto_v1_3")
ofproto_common: Any = _module("ofproto.ofproto_common")
nicira_ext: Any = _module("ofproto.nicira_ext")
