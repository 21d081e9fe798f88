"""The commands, one file each. They import click only; a room is imported inside the command that needs it,
so that ``testbed COMMAND --help`` is quick."""

from __future__ import annotations

import click

from testbed.commands.check import check
from testbed.commands.compare import compare
from testbed.commands.doctor import doctor
from testbed.commands.down import down
from testbed.commands.exec import exec_
from testbed.commands.graph import graph
from testbed.commands.plan import plan
from testbed.commands.plot import plot
from testbed.commands.ps import ps
from testbed.commands.report import report
from testbed.commands.run import run
from testbed.commands.trace import trace
from testbed.commands.up import up

COMMANDS: tuple[click.Command, ...] = (
    *(doctor, check, plan, run, plot, report, compare, graph),
    *(up, ps, exec_, trace, down),
)
