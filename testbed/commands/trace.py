"""``testbed trace``: the way of a packet through a running cluster, in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from testbed.commands.options import form_option, name_option, running_cluster

if TYPE_CHECKING:
    from testbed.trace.values import TransportProtocol


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("target", metavar="TO[:PORT]")
@click.option(
    "--protocol",
    type=click.Choice(["tcp", "udp", "icmp"]),
    help="Of the packet  [default: tcp to a port, a Service's own, else icmp]",
)
@click.option("--source-port", type=click.IntRange(1, 65535), help="The client's port  [default: one is assumed]")
@click.option(
    "--endpoint", metavar="POD|ADDRESS", help="Which of a Service's endpoints to follow  [default: the first one tried]"
)
@name_option
@form_option
def trace(
    source: str,
    target: str,
    protocol: TransportProtocol | None,
    source_port: int | None,
    endpoint: str | None,
    name: str | None,
    output: str,
) -> int:
    """Tell the way of a packet through a cluster that `testbed up` keeps running, and the way of its reply.

    FROM is POD, NAMESPACE/POD, node/NODE or ext/HOST. TO is one of them, or service/[NAMESPACE/]NAME:PORT,
    loadbalancer/[NAMESPACE/]NAME:PORT or an address, each with :PORT if need be. Nothing is sent: the way is read from
    Open vSwitch's own trace and the kernels' tables as they are. Ends with 1 if request or reply do not arrive, and
    names the flow, rule or route that stops them.

    \b
    Examples:
      testbed trace client web:8000
      testbed trace client service/web:80 --endpoint web-2
      testbed trace ext/ext1 node/n1:30080 -o json
    """
    from testbed.errors import TestbedError
    from testbed.network.enter import call_in
    from testbed.trace import Cluster, Request
    from testbed.trace import trace as trace_packet
    from testbed.trace.text import trace_as_data, trace_as_text

    running = running_cluster(name)
    request = Request(source, target, protocol, source_port, endpoint)

    def inside(api_url: str) -> int:
        try:
            traced = trace_packet(Cluster.of_api(api_url), request)
        except TestbedError as error:
            click.echo(str(error), err=True)
            return error.exit_status
        if output == "json":
            click.echo(json.dumps(trace_as_data(traced), indent=2))
        else:
            click.echo(trace_as_text(traced), nl=False)
        return 0 if traced.succeeded else 1

    return call_in(running, inside)
