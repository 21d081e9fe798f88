"""What a person writes, as checked values: experiments, topologies and manifests."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testbed.spec.checked import CheckedExperiment
    from testbed.spec.endpoints import EndpointRef, parse_endpoint
    from testbed.spec.load import load_experiment, load_topology_argument
    from testbed.spec.manifests import Manifest

__all__ = [
    "CheckedExperiment",
    "EndpointRef",
    "Manifest",
    "load_experiment",
    "load_topology_argument",
    "parse_endpoint",
]

_MODULES = {
    "CheckedExperiment": "checked",
    "EndpointRef": "endpoints",
    "Manifest": "manifests",
    "load_experiment": "load",
    "load_topology_argument": "load",
    "parse_endpoint": "endpoints",
}


def __getattr__(name: str) -> object:
    # Imported when asked for: `testbed exec` needs the endpoints alone, and all of it takes a quarter of a second.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
