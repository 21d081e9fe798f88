"""Writes what the commands of pages print here into the pages, where it is not what they show already.

``python -m tests.walkthroughs.record docs/walkthroughs/pods.md`` runs a page in the cluster that KUBECONFIG and
``testbed`` mean.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.walkthroughs.outputs import Names
from tests.walkthroughs.pages import FOLDER, steps_of, with_output
from tests.walkthroughs.shell import Shell, bash

_LIMIT_S = 60.0


def record(page: Path) -> None:
    """Run a page and write it anew."""
    names, outputs = Names(), []
    with Shell(bash(), FOLDER.parents[1], os.environ) as shell:
        for step in steps_of(page):
            printed = shell.run(step.commands, _LIMIT_S)
            same = names.match(step.printed, printed)
            outputs.append(step.printed if same else printed)
            if not same:
                sys.stdout.write(f"-- {step}\n{step.commands}{printed}\n")
                names.match(printed, printed)
    page.write_text(with_output(page.read_text(), outputs))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        record(Path(argument))
