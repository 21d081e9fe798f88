"""One node's kernel brought to its rules and kept there: a thread that lives in the node's network namespace."""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from testbed.cluster.gone_endpoints import Socket
from testbed.network import netns
from testbed.proxy import conntrack
from testbed.proxy.rules import Command, Rules, Target, difference

LOG = logging.getLogger(__name__)

_COMMAND_S = 600  # far more than the largest transaction takes
_NAMESPACE_RETRY_S = 0.05
# Restoring a large set of rules takes a processor; more of them at once would only take more memory.
_RUNNING = threading.Semaphore(max(2, len(os.sched_getaffinity(0))))

_SHOWN = 500  # characters of an error message; nft repeats the whole line it does not like

Confirm = Callable[[str, str, str], None]


class CommandFailed(Exception):
    """A program refused the rules; the text is its own."""


class NodeProxy:
    """Applies always only the newest target; those that it did not come to are passed over.

    ``confirm`` is told (node name, versions, error) after each: the error is empty when the kernel has the rules.
    ``folder`` keeps a note of which proxy's rules may be in the namespace, so that those of an earlier process are
    found.
    """

    def __init__(self, name: str, rules: Mapping[str, Rules], confirm: Confirm, folder: Path) -> None:
        self.name = name
        self._rules, self._confirm = rules, confirm
        self._note = folder / name
        self._installed: Target | None = None
        self._condition = threading.Condition()
        self._wanted: tuple[Target | None, str] | None = None
        self._gone: set[Socket] = set()  # TCP endpoints, whose connections are still to be forgotten
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name=f"proxy {name}", daemon=True)
        self._thread.start()

    def want(self, target: Target | None, versions: str, gone: Iterable[Socket] = ()) -> None:
        """Bring the node to a target (None: no rules), forget the TCP connections to endpoints that have gone since the
        one before, and confirm the versions then."""
        with self._condition:
            self._wanted = target, versions
            self._gone.update(gone)
            self._condition.notify()

    def stop(self) -> None:
        """End the thread; the rules stay."""
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def _next(self) -> tuple[Target | None, str, set[Socket]] | None:
        with self._condition:
            self._condition.wait_for(lambda: self._wanted is not None or self._stopped)
            wanted, self._wanted = self._wanted, None
            gone, self._gone = self._gone, set()
            return None if wanted is None or self._stopped else (*wanted, gone)

    def _work(self) -> None:
        if not self._enter():
            return
        while (wanted := self._next()) is not None:
            target, versions, gone = wanted
            error = ""
            try:
                self._apply(target)
                if gone:
                    conntrack.flush(partial(conntrack.is_to, gone))
            except (CommandFailed, OSError, subprocess.SubprocessError) as failure:
                error = str(failure)
                with self._condition:
                    self._gone |= gone
                LOG.error("%s: %s", self.name, error)
            self._confirm(self.name, versions, error)

    def _enter(self) -> bool:
        """Move the thread into the node's namespace as soon as there is one; False when stopped before."""
        while True:
            try:
                netns.enter(self.name)
                return True
            except OSError:
                with self._condition:
                    if self._condition.wait_for(lambda: self._stopped, _NAMESPACE_RETRY_S):
                        return False

    def _apply(self, target: Target | None) -> None:
        before = self._installed
        if before is None:
            if target is not None and self._replace(target):
                return
            self._remove_leftovers()
        if before is not None and target is not None and (before.proxy, before.base) == (target.proxy, target.base):
            try:
                self._update(before, target)
                return
            except CommandFailed as failure:
                LOG.warning("%s: all rules are written anew, for this failed: %s", self.name, failure)
                self._remove_leftovers()
        elif before is not None:
            self._remove(before)
        if target is not None:
            self._install(target)

    def _update(self, before: Target, target: Target) -> None:
        rules = self._rules[target.proxy]
        found = difference(before, target)
        if found:
            self._installed = None
            self._run_all(rules.update(target.base, found.values(), target.pieces))
        self._installed = target
        gone = [before.ports[key] for key in found if key in before.ports]
        present = [target.ports[key] for key in found if key in target.ports]
        fronts = conntrack.udp_fronts(target.node, gone, present)
        if fronts:
            conntrack.flush(fronts.is_stale)

    def _replace(self, target: Target) -> bool:
        """Put a target in the place of what an earlier process of the same proxy has left, while packets flow. False
        when there is none of it, or that cannot be done."""
        if self._left_by() != target.proxy:
            return False
        rules = self._rules[target.proxy]
        try:
            commands = rules.replace(self._listing(rules), target.base, target.pieces())
            self._run_all(commands)
        except CommandFailed as failure:
            LOG.warning("%s: what is there is removed first, for this failed: %s", self.name, failure)
            return False
        if commands:
            self._has(target)
        return bool(commands)

    def _install(self, target: Target) -> None:
        rules = self._rules[target.proxy]
        self._note.write_text(target.proxy)
        self._run_all(rules.install(target.base, target.pieces()))
        self._has(target)

    def _has(self, target: Target) -> None:
        """The kernel has the target, after something that is not known."""
        self._installed = target
        fronts = conntrack.udp_fronts(target.node, (), target.ports.values())
        if fronts:
            conntrack.flush(fronts.is_stale)

    def _remove(self, before: Target) -> None:
        self._installed = None
        self._run_all(self._rules[before.proxy].remove(before.pieces()))
        self._forget()

    def _remove_leftovers(self) -> None:
        """Remove whatever there may be of the proxy that the note names."""
        proxy = self._left_by()
        if proxy is None:
            return
        rules = self._rules[proxy]
        for command in rules.purge(self._listing(rules)):
            try:
                self._run(command)
            except CommandFailed as failure:  # some of it may not be there
                LOG.info("%s: %s", self.name, failure)
        self._forget()

    def _left_by(self) -> str | None:
        """The proxy whose rules may be there, by the note."""
        return self._note.read_text() if self._note.exists() else None

    def _listing(self, rules: Rules) -> str:
        listing = rules.listing()
        return self._run(listing) if listing is not None else ""

    def _forget(self) -> None:
        """Nothing is translated any more: what was must not come to life again with the next proxy's rules."""
        conntrack.flush(lambda connection: connection.is_translated)
        self._note.unlink()

    def _run_all(self, commands: Iterable[Command]) -> None:
        for command in commands:
            self._run(command)

    def _run(self, command: Command) -> str:
        """The program's output. It runs in this thread's namespace. Raises CommandFailed."""
        with _RUNNING:
            done = subprocess.run(
                command.argv, input=command.text, capture_output=True, text=True, timeout=_COMMAND_S, check=False
            )
        if done.returncode:
            said = " ".join(done.stderr.split())[:_SHOWN] or f"status {done.returncode}"
            raise CommandFailed(f"{' '.join(command.argv)}: {said}")
        return done.stdout
