"""The sound parts of an experiment file that need not be sound as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel

from testbed.spec.models import Build, Comparison, Expectation, LinkProperties, Network, Path, Probe, Topology
from testbed.spec.structure import sound, sound_fields

AnyModel = TypeVar("AnyModel", bound=BaseModel)


class Parts:
    """The sound parts of a document that need not be sound as a whole. Lists are kept by index.

    ``..._fields`` hold what is sound of a part that may be unsound elsewhere: enough for a check, not for a build.
    """

    def __init__(self, value: Mapping[str, Any]) -> None:
        topology = value.get("topology")
        self.topology = sound(topology, Topology)
        self.topology_fields = sound_fields(topology, Topology)
        links = topology.get("links") if isinstance(topology, dict) else None
        self.links = _by_key(links, LinkProperties)
        network = value.get("network", {})
        self.network = sound(network, Network)
        self.network_fields = sound_fields(network, Network) or Network()
        builds = _list(value.get("builds", [{}]))
        self.builds = _by_index(builds, Build)
        self.build_fields = {
            index: fields for index, item in enumerate(builds) if (fields := sound_fields(item, Build)) is not None
        }
        self.paths = _by_key(value.get("paths"), Path)
        self.probes = _by_index(value.get("probes"), Probe)
        self.expectations = _by_index(value.get("expect"), Expectation)
        primary, compare = value.get("primary"), value.get("compare")
        self.primary = primary if isinstance(primary, str) else None
        self.compare: Comparison | None = next((by for by in get_args(Comparison) if by == compare), None)
        self.proxy_count = len(_list(value.get("proxies")))
        manifests = _list(value.get("manifests"))
        self.manifest_count = len(manifests)
        self.manifests = {index: name for index, name in enumerate(manifests) if isinstance(name, str) and name}

    @property
    def compared(self) -> Comparison:
        """What is compared, as :attr:`testbed.spec.models.Experiment.compared`."""
        by_path = any(path.baseline is not None for path in self.paths.values())
        return self.compare or ("path" if by_path else "proxy" if self.proxy_count > 1 else "mode")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _by_index(value: Any, model: type[AnyModel]) -> dict[int, AnyModel]:
    parts = ((index, sound(item, model)) for index, item in enumerate(_list(value)))
    return {index: part for index, part in parts if part is not None}


def _by_key(value: Any, model: type[AnyModel]) -> dict[str, AnyModel]:
    parts = ((key, sound(item, model)) for key, item in (value.items() if isinstance(value, dict) else ()))
    return {key: part for key, part in parts if part is not None}
