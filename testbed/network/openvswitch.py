"""One Open vSwitch per node: an ovsdb-server and an ovs-vswitchd of its own, started and configured in batches."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from controllers.pipeline.tables import TABLES
from testbed.cluster.identity import BRIDGE, GATEWAY_OF_PORT, TUNNEL_OF_PORT
from testbed.errors import RunError
from testbed.network import netns

Datapath = Literal["netdev", "system"]

_SCHEMA = "/usr/share/openvswitch/vswitch.ovsschema"
RUN_DIRECTORY = Path("/run/openvswitch")
# In a switch's directory, by its daemons.
DATABASE_PID_FILE, DAEMON_PID_FILE = "ovsdb.pid", "vswitchd.pid"
_QUIET = ("-vconsole:off", "-vsyslog:off", "-vfile:info")
_TIMEOUT_S = 30


@dataclass(frozen=True)
class VSwitch:
    """The Open vSwitch of one node. ``ports``: its bridge's ports as they are now, with OpenFlow numbers (0: any)."""

    node_name: str
    namespace: str
    datapath_id: int
    ports: dict[str, int]

    @property
    def directory(self) -> Path:
        return RUN_DIRECTORY / self.node_name

    @property
    def environment(self) -> dict[str, str]:
        """What makes ovs-ofctl and ovs-appctl talk to this switch."""
        return {**os.environ, "OVS_RUNDIR": str(self.directory), "OVS_LOGDIR": str(self.directory)}

    @property
    def database(self) -> str:
        return f"unix:{self.directory}/db.sock"

    def ofctl(self, *arguments: str) -> str:
        """The output of ``ovs-ofctl -O OpenFlow13 COMMAND BRIDGE ...`` on this switch's bridge.

        Raises :class:`RunError` with the tool's own words.
        """
        return _output(["ovs-ofctl", "-O", "OpenFlow13", *arguments], self.environment)

    def vsctl(self, *arguments: str) -> str:
        """The output of ``ovs-vsctl``, which waits for a database that is being started again. Raises RunError."""
        waiting = ("--retry", f"--timeout={_TIMEOUT_S - 1}")
        return _output(["ovs-vsctl", f"--db={self.database}", *waiting, *arguments], self.environment)

    def appctl(self, command: str, *arguments: str) -> str:
        """Ask the running ovs-vswitchd over its control socket (JSON-RPC, ovs-appctl(8)), without a process."""
        request = {"id": 0, "method": command, "params": list(arguments)}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(f"{self.directory}/vswitchd.ctl")
            connection.sendall(json.dumps(request).encode())
            reply = b""
            while True:
                chunk = connection.recv(65536)
                reply += chunk
                try:
                    answer = json.loads(reply)
                    break
                except ValueError:
                    if not chunk:
                        raise RunError(f"{self.node_name}: ovs-vswitchd closed its control socket") from None
        if answer.get("error"):
            raise RunError(f"{self.node_name}: {command}: {answer['error']}")
        return str(answer["result"])

    def add_ports(self, ports: Mapping[str, int]) -> None:
        """Add ports to the running bridge, in one transaction; returns when they forward. Raises RunError."""
        arguments: list[str] = []
        for name, of_port in ports.items():
            arguments += add_port_arguments(name, of_port)
        self.vsctl(*arguments)
        self.ports.update(ports)

    def delete_ports(self, names: Iterable[str]) -> None:
        """Take ports from the running bridge, in one transaction. Raises RunError."""
        arguments: list[str] = []
        for name in names:
            arguments += ["--", "--if-exists", "del-port", BRIDGE, name]
            self.ports.pop(name, None)
        self.vsctl(*arguments)

    def flow_count(self) -> int:
        """Flows in the bridge's tables."""
        text = self.ofctl("dump-aggregate", BRIDGE)
        return int(re.search(r"flow_count=(\d+)", text)[1])  # type: ignore[index]

    def counters(self) -> dict[str, int]:
        """Packets through the tunnel and gateway ports, upcalls lost by the datapath, and the number of its ports."""
        result: dict[str, int] = {"ports": len(self.ports)}
        ports = parse_port_packets(self.ofctl("dump-ports", BRIDGE))
        for label, of_port in (("tunnel", TUNNEL_OF_PORT), ("gateway", GATEWAY_OF_PORT)):
            received, sent = ports[of_port]
            result[f"{label}_rx_packets"], result[f"{label}_tx_packets"] = received, sent
        result["lost_upcalls"] = int(re.search(r"lost:(\d+)", self.appctl("dpctl/show"))[1])  # type: ignore[index]
        return result


def revise_cached_decisions(switches: Iterable[VSwitch]) -> None:
    """Return when what the switches' datapaths have cached agrees with their flow tables as they were when asked.

    A barrier does not say so: Open vSwitch revises its cache in rounds, one of which begins soon after a change. This
    waits for the end of a round, which takes up to half a second. (``revalidator/purge`` would be quicker, but drops
    what arrives meanwhile; ``revalidator/pause`` and ``resume`` would tell the end of the right round in a millisecond,
    but under changes have left Open vSwitch 3.1 hanging.)
    """
    asked = list(switches)
    with ThreadPoolExecutor(len(asked)) as pool:
        list(pool.map(lambda switch: switch.appctl("revalidator/wait"), asked))


def parse_port_packets(text: str) -> dict[int, tuple[int, int]]:
    """(received, sent) packets per OpenFlow port from the output of ``ovs-ofctl dump-ports``."""
    pattern = re.compile(r"port\s+\"?(\w+)\"?: rx pkts=(\d+).*?tx pkts=(\d+)", re.DOTALL)
    return {int(number): (int(rx), int(tx)) for number, rx, tx in pattern.findall(text) if number.isdigit()}


def _output(argv: Sequence[str], environment: Mapping[str, str]) -> str:
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S)
    if done.returncode:
        raise RunError(f"{' '.join(argv)}: {done.stderr.strip() or f'status {done.returncode}'}")
    return done.stdout


def start_all(switches: Sequence[VSwitch], datapath: Datapath, controller: str) -> None:
    """Start every node's daemons side by side. Each bridge is complete, with all its ports, when this returns.

    The database is filled before ovs-vswitchd starts, so that all ports are configured in one pass; ``--detach``
    returns when the daemon is ready, so nothing is polled.
    """
    template = RUN_DIRECTORY / "template.db"
    if not template.exists():
        _output(["ovsdb-tool", "create", str(template), _SCHEMA], os.environ)
    for switch in switches:
        switch.directory.mkdir(parents=True)
        shutil.copyfile(template, switch.directory / "conf.db")
    _all((_database_argv(switch), switch) for switch in switches)
    _all((_configuration(switch, datapath, controller), switch) for switch in switches)
    _all((_daemon_argv(switch, datapath), switch) for switch in switches)
    for switch in switches:
        _settle(switch, datapath)


def restart_database(switch: VSwitch) -> None:
    """Start the ovsdb-server of a node again, whose file has stayed. Raises RunError."""
    _all([(_database_argv(switch), switch)])


def restart_daemon(switch: VSwitch, datapath: Datapath) -> None:
    """Start the ovs-vswitchd of a node again: it finds its ports and their numbers in the database, and gets its flows
    from the controller. What it knew of connections is lost. Raises RunError."""
    _all([(_daemon_argv(switch, datapath), switch)])
    _settle(switch, datapath)


def _settle(switch: VSwitch, datapath: Datapath) -> None:
    if datapath == "netdev":
        # A client that comes again by the port of a connection whose end nobody has seen has a sequence number far from
        # the old ones. It must reach its endpoint, as with Linux' connection tracking, so that the two can settle it.
        switch.appctl("dpctl/ct-disable-tcp-seq-chk")


def _database_argv(switch: VSwitch) -> list[str]:
    return [
        "ovsdb-server",
        f"{switch.directory}/conf.db",
        f"--remote=p{switch.database}",
        f"--unixctl={switch.directory}/ovsdb.ctl",
        f"--pidfile={switch.directory}/{DATABASE_PID_FILE}",
        f"--log-file={switch.directory}/ovsdb.log",
        "--detach",
        "--no-chdir",
        *_QUIET,
    ]


def _daemon_argv(switch: VSwitch, datapath: Datapath) -> list[str]:
    return [
        "nsenter",
        f"--net={netns.path(switch.namespace)}",
        "--",
        "ovs-vswitchd",
        switch.database,
        f"--unixctl={switch.directory}/vswitchd.ctl",
        f"--pidfile={switch.directory}/{DAEMON_PID_FILE}",
        f"--log-file={switch.directory}/vswitchd.log",
        "--detach",
        "--no-chdir",
        *(() if datapath == "system" else ("--disable-system",)),
        *_QUIET,
    ]


def _configuration(switch: VSwitch, datapath: Datapath, controller: str) -> list[str]:
    argv = [
        "ovs-vsctl",
        f"--db={switch.database}",
        "--no-wait",
        "init",
        "--",
        "add-br",
        BRIDGE,
        "--",
        "set",
        "bridge",
        BRIDGE,
    ]
    argv += [
        f"datapath_type={datapath}",
        "fail_mode=secure",
        "protocols=OpenFlow13",
        f"other_config:datapath-id={switch.datapath_id:016x}",
        "other_config:disable-in-band=true",
        "--",
        "set-controller",
        BRIDGE,
        controller,
        "--",
        "set",
        "controller",
        BRIDGE,
        "connection_mode=out-of-band",
        # A switch that takes in 10,000 Services at once has no time for echoes meanwhile.
        "inactivity_probe=15000",
        "max_backoff=1000",
    ]
    for table in TABLES.values():
        # ovs-ofctl --names then prints the tables by name, as `testbed plan` does.
        made = f"@table{table.number}"
        argv += ["--", f"--id={made}", "create", "Flow_Table", f"name={table.name}"]
        argv += ["--", "set", "bridge", BRIDGE, f"flow_tables:{table.number}={made}"]
    for name, of_port in switch.ports.items():
        argv += add_port_arguments(name, of_port)
    return argv


def add_port_arguments(name: str, of_port: int) -> list[str]:
    """The part of an ovs-vsctl command that adds a port; ``of_port`` 0 leaves the number to the switch."""
    arguments = ["--", "add-port", BRIDGE, name]
    return [*arguments, "--", "set", "interface", name, f"ofport_request={of_port}"] if of_port else arguments


def _all(commands: Iterable[tuple[list[str], VSwitch]]) -> None:
    """Run commands side by side; the first failure is raised with its words, after all have ended."""
    running = [
        (
            argv,
            subprocess.Popen(argv, env=switch.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True),
        )
        for argv, switch in commands
    ]
    failures = []
    for argv, process in running:
        try:
            output, _ = process.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            output = f"no answer within {_TIMEOUT_S} s"
        if process.returncode:
            failures.append(f"{argv[0] if argv[0] != 'nsenter' else 'ovs-vswitchd'}: {output.strip()}")
    if failures:
        raise RunError("Open vSwitch did not start: " + "; ".join(failures))


class Ending:
    """The end of every node's daemons, in two steps, so that other work can be done between them."""

    def __init__(self) -> None:
        self._daemons: list[int] = []
        self._directories: list[Path] = []

    def kill(self, switches: Sequence[VSwitch]) -> None:
        """Kill every node's daemons, without waiting. A kernel datapath goes with its network namespace.

        Nothing of theirs is kept. Closing a packet socket, one for each port, takes the kernel an RCU grace period,
        which it expedites while interfaces are being removed: waiting here for the end of 500 ports took 2 s.
        """
        for switch in switches:
            for name in (DAEMON_PID_FILE, DATABASE_PID_FILE):
                with suppress(ProcessLookupError, FileNotFoundError):  # one that has ended by itself
                    daemon = os.pidfd_open(int((switch.directory / name).read_text()))
                    self._daemons.append(daemon)
                    signal.pidfd_send_signal(daemon, signal.SIGKILL)
            self._directories.append(switch.directory)

    def wait(self) -> None:
        """Wait until the killed daemons have ended, and remove their files."""
        for daemon in self._daemons:
            # The daemons are not children of this process, so they are waited for by their descriptors.
            poll = select.poll()
            poll.register(daemon, select.POLLIN)
            poll.poll(_TIMEOUT_S * 1000)
            os.close(daemon)
        for directory in self._directories:
            shutil.rmtree(directory)
