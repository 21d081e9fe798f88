"""The command line. The commands are in :mod:`testbed.commands`; errors and exit statuses are handled here."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import click

from testbed import commands
from testbed.errors import InputError, TestbedError
from testbed.views.words import counted

EXIT_STATUSES = """\b
Exit status:
  0    done
  1    an expectation was not met (named), or the result is inconclusive
  2    the input is wrong
  3    this machine cannot do it
  130  interrupted; the samples so far are kept and marked partial
"""
INTERRUPTED = 130


@click.group(epilog=EXIT_STATUSES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="k8s-mininet-testbed", prog_name="testbed")
def testbed() -> None:
    """Emulate Kubernetes pod networks on Mininet and Open vSwitch, and measure them.

    \b
    Examples:
      testbed doctor
      testbed run experiments/overlay_vs_routed.yaml
      testbed up leaf_spine,leaves=2,spines=2
    """


for _command in commands.COMMANDS:
    testbed.add_command(_command)


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status; every foreseen error is printed without a traceback."""
    try:
        status = testbed.main(args=list(arguments), prog_name="testbed", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except InputError as error:
        click.echo(f"{error}\n{closing_line(error)}", err=True)
        return error.exit_status
    except TestbedError as error:
        click.echo(str(error), err=True)
        return error.exit_status
    return status if isinstance(status, int) else 0


def closing_line(error: InputError) -> str:
    """How many problems there are, in how many files."""
    problems, files = len(error.problems), len({problem.file for problem in error.problems})
    return f"{counted(problems, 'problem')} in {counted(files, 'file')}"


def main() -> None:
    """The entry point of the program ``testbed``."""
    sys.exit(execute(sys.argv[1:]))
