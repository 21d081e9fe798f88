"""Nodes, pods and fabric elements as Mininet sees them, registered after they were built in batches.

``mininet>``, ``host.cmd``, ``host.popen``, ``pingAll`` work as they do on hosts that Mininet built itself. A shell is
started when the first command needs one: 3.4 MB and 14 ms each are not spent on pods that nobody types into.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from subprocess import PIPE, Popen
from typing import Any

from mininet.cli import CLI
from mininet.link import Intf, Link
from mininet.net import Mininet
from mininet.node import Node

from testbed.network.place import Place


class ClusterHost(Node):  # type: ignore[misc]
    """A Mininet host whose namespaces exist already."""

    def __init__(self, name: str, place: Place) -> None:
        self.place = place
        self._shell_wanted = False
        # In a namespace: Mininet moves interfaces that are added later into it.
        super().__init__(name, inNamespace=True)

    def startShell(self, mnopts: str | None = None) -> None:
        """Start the shell, unless it is only the constructor that asks."""
        if self._shell_wanted:
            # Its own way into a namespace would be a new one; _popen enters the one that is there.
            self.inNamespace = False
            super().startShell(mnopts)
            self.inNamespace = True

    def cmd(self, *args: Any, **kwargs: Any) -> str:
        self._need_shell()
        return str(super().cmd(*args, **kwargs))

    def sendCmd(self, *args: Any, **kwargs: Any) -> None:
        self._need_shell()
        super().sendCmd(*args, **kwargs)

    @property
    def pid(self) -> int | None:
        """The shell's process id; asking for it starts the shell, because Mininet enters namespaces by it."""
        self._need_shell()
        return self._pid

    @pid.setter
    def pid(self, value: int | None) -> None:
        self._pid = value

    def _need_shell(self) -> None:
        if not self._shell_wanted:
            self._shell_wanted = True
            self.startShell()

    def _popen(self, cmd: list[str], **params: Any) -> Popen[Any]:
        return self.place.popen(cmd, **params)

    def popen(self, *args: Any, **kwargs: Any) -> Popen[Any]:
        """Start a program in the host's namespaces, with Mininet's calling conventions, without needing its shell."""
        options: dict[str, Any] = {"stdout": PIPE, "stderr": PIPE, **kwargs}
        options.pop("mncmd", None)
        shell = options.pop("shell", False)
        if len(args) == 1:
            command = args[0] if isinstance(args[0], list) else shlex.split(args[0])
            if shell:
                command = ["/bin/sh", "-c", args[0] if isinstance(args[0], str) else shlex.join(args[0])]
        else:
            command = list(args)
        return self._popen([str(word) for word in command], **options)

    def terminate(self) -> None:
        if self.shell:
            super().terminate()

    def __repr__(self) -> str:
        interfaces = ",".join(f"{name}:{intf.IP()}" for name, intf in self.nameToIntf.items())
        return f"<{self.__class__.__name__} {self.name}: {interfaces}>"


class WiredIntf(Intf):  # type: ignore[misc]
    """An interface that is there already: nothing is created, moved or configured."""

    def __init__(self, name: str, node: Node, address: str | None, prefix_length: int | None, mac: str | None) -> None:
        # Intf's own constructor would run ifconfig, and so start the host's shell.
        self.name, self.node, self.link = name, node, None
        self.ip, self.prefixLen, self.mac = address, prefix_length, mac
        self.params: dict[str, Any] = {}
        node.addIntf(self, moveIntfFn=lambda *_: None)


class WiredLink(Link):  # type: ignore[misc]
    """A link between two interfaces that are wired already."""

    def __init__(self, intf1: Intf, intf2: Intf) -> None:
        self.intf1, self.intf2 = intf1, intf2
        intf1.link = intf2.link = self


class ClusterNet(Mininet):  # type: ignore[misc]
    """The Mininet network of a built cluster."""

    def __init__(self) -> None:
        # Mininet's own initialisation raises limits and sets sysctls of the whole machine; the box needs none of that.
        Mininet.inited = True
        super().__init__(topo=None, build=False)
        self.built = True

    def register(self, hosts: Iterable[Node], elements: Iterable[Node]) -> None:
        """Make hosts (pinged by ``pingall``) and fabric elements (not pinged) known by their names."""
        self.hosts = list(hosts)
        self.switches = list(elements)
        self.nameToNode = {node.name: node for node in (*self.hosts, *self.switches)}

    def stop_shells(self) -> None:
        """End the shells that commands have started."""
        for node in self.nameToNode.values():
            node.terminate()

    def connect(self, first: tuple[Node, str], second: tuple[Node, str]) -> None:
        """Register the wire between two interfaces that both ends know already."""
        self.links.append(WiredLink(first[0].nameToIntf[first[1]], second[0].nameToIntf[second[1]]))


class ClusterCLI(CLI):  # type: ignore[misc]
    """The Mininet prompt, with Kubernetes' names (which have dashes and dots) as first words."""

    identchars = CLI.identchars + "-."
    prompt = "mininet> "
