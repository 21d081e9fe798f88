"""What all topologies share: declared parameters, a pure :class:`Fabric`, and Mininet's own graph made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from mininet.topo import Topo

from topologies.elements import FabricBridge, Router, ShapedLink
from topologies.fabric import Element, Fabric, FabricLink, Route, Shaping
from topologies.layout import Layout
from topologies.routing import underlay_routes


@dataclass(frozen=True)
class Parameter:
    """A whole number that a topology takes. Its maximum is such that names and addresses never run out."""

    name: str
    default: int
    minimum: int
    maximum: int
    help: str
    step: int = 1

    @property
    def allowed(self) -> str:
        """The values it may take, in words."""
        steps = "" if self.step == 1 else f", in steps of {self.step}"
        return f"a whole number from {self.minimum} to {self.maximum}{steps}"

    def accepts(self, value: object) -> bool:
        """Whether ``value`` may be given."""
        return (
            isinstance(value, int)
            and not isinstance(value, bool)
            and self.minimum <= value <= self.maximum
            and (value - self.minimum) % self.step == 0
        )


EXT = Parameter("ext", 0, 0, 8, "hosts outside the cluster")


class FabricTopo(Topo):
    """A Mininet topology that is also a :class:`Fabric`.

    Subclasses declare ``PARAMETERS`` and ``ROLES`` and say in ``lay_out`` what hangs where.
    """

    PARAMETERS: ClassVar[tuple[Parameter, ...]]
    # Link roles, by which shaping is given.
    ROLES: ClassVar[tuple[str, ...]]

    fabric: Fabric

    @classmethod
    def parameters(cls) -> dict[str, Parameter]:
        """The declared parameters by name."""
        return {parameter.name: parameter for parameter in cls.PARAMETERS}

    def build(self, *args: int, shaping: Mapping[str, Shaping] | None = None, **params: int) -> None:
        """Called by Topo's constructor, with that one's arguments.

        :param args: parameters by position, as in ``mn --topo fat_tree,4``.
        :param shaping: link role to what its links do.
        :param params: parameters by name; what is left out takes its default.
        :raises ValueError: an unknown parameter or role, or a value out of range.
        """
        if len(args) > len(self.PARAMETERS):
            raise ValueError(f"{len(args)} values given for the parameters {', '.join(self.parameters())}")
        by_position = dict(zip(self.parameters(), args, strict=False))
        self.fabric = self.plan_fabric(by_position | params, shaping)
        routes = underlay_routes(self.fabric)
        for element in self.fabric.elements:
            self._add_element(element, routes.get(element.name, ()))
        for link in self.fabric.links:
            self._add_fabric_link(link)

    @classmethod
    def plan_fabric(cls, given: Mapping[str, int], shaping: Mapping[str, Shaping] | None = None) -> Fabric:
        """The fabric alone, without Mininet's graph.

        :param given: parameters by name; what is left out takes its default.
        :param shaping: link role to what its links do.
        :raises ValueError: an unknown parameter or role, or a value out of range.
        """
        declared = cls.parameters()
        for name in given:
            if name not in declared:
                raise ValueError(f"{name} is not a parameter; there are: {', '.join(declared)}")
        values = {name: given.get(name, parameter.default) for name, parameter in declared.items()}
        for name, value in values.items():
            if not declared[name].accepts(value):
                raise ValueError(f"{name} is {value!r}, but must be {declared[name].allowed}")
        for role in shaping or {}:
            if role not in cls.ROLES:
                raise ValueError(f"{role} is not a link role here; there are: {', '.join(cls.ROLES)}")
        layout = Layout(shaping or {})
        cls.lay_out(layout, **values)
        return layout.fabric()

    @classmethod
    def lay_out(cls, layout: Layout, *args: Any, **values: Any) -> None:
        """Add this topology's elements and links to ``layout``; ``values`` holds every declared parameter."""
        raise NotImplementedError

    def _add_element(self, element: Element, routes: tuple[Route, ...]) -> None:
        if element.kind == "bridge":
            self.addSwitch(element.name, cls=FabricBridge)
        elif element.kind == "router":
            # Without ip=None Mininet would give its own 10.x address to the first interface.
            self.addNode(element.name, cls=Router, ip=None, routes=routes)
        else:
            hops = [hop for route in routes for hop in route.next_hops]
            default = {"defaultRoute": f"via {hops[0].via} dev {hops[0].interface}"} if hops else {}
            self.addHost(element.name, ip=str(self.fabric.address(element.name)), **default)

    def _add_fabric_link(self, link: FabricLink) -> None:
        options: dict[str, Any] = {}
        for number, end in enumerate((link.a, link.b), start=1):
            options[f"port{number}"] = int(end.interface.rpartition("-eth")[2])
            options[f"intfName{number}"] = end.interface
            if end.address is not None:
                options[f"params{number}"] = {"ip": str(end.address)}
        if link.shaping != Shaping():
            options |= {"cls": ShapedLink, "shaping": link.shaping}
        self.addLink(link.a.element, link.b.element, **options)
