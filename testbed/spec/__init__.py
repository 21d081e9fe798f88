"""What a person writes, as checked values: experiments, topologies and manifests."""

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
