"""One Ingress controller: its files, and whether its nginx goes by them."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from testbed.network.ingress.control import NginxState, NginxUnreachable, leave, read_state, reload, send_endpoints

LOG = logging.getLogger(__name__)

# A reload that does not show within this time is asked for again.
_RELOAD_S = 5.0


@dataclass(frozen=True)
class Wanted:
    """What all controllers shall go by. ``configuration`` makes the text for a directory."""

    version: str
    configuration: Callable[[Path], str] = field(compare=False)
    endpoints: str  # the table, with its version in the first line

    @property
    def endpoints_version(self) -> str:
        return self.endpoints.partition("\n")[0]


class NginxPod:
    """The nginx of one controller pod. Not thread-safe."""

    def __init__(self, title: str, uid: str, directory: Path) -> None:
        self.title, self.uid = title, uid
        self.trouble = "not written yet"
        """Why it does not go by what is wanted; "" when it does."""
        self._directory = directory
        self._written: Wanted | None = None
        self._reloading_until = 0.0
        self._leaving = False

    def write(self, wanted: Wanted) -> bool:
        """Write the files, so that an nginx that starts now is right, and return whether the configuration is new to
        one that was there before."""
        before, self._written = self._written, wanted
        if before == wanted:
            return False
        self.trouble = "its nginx has not been told yet"
        self._directory.mkdir(parents=True, exist_ok=True)
        if before is None or before.endpoints != wanted.endpoints:
            _replace(self._directory / "endpoints", wanted.endpoints)
        if before is None or before.version != wanted.version:
            _replace(self._directory / "nginx.conf", wanted.configuration(self._directory))
            self._reloading_until = 0.0
        return before is not None and before.version != wanted.version

    def attend(self) -> None:
        """Bring the nginx that runs, if one does, to what was written."""
        assert self._written is not None
        try:
            state = self._bring(self._written, read_state(self._directory))
        except NginxUnreachable as error:
            self.trouble = f"its nginx cannot be reached: {error}"
            return
        self.trouble = "" if state.configurations == {self._written.version} else "its nginx is reading the new rules"

    def _bring(self, wanted: Wanted, state: NginxState) -> NginxState:
        # Endpoints first: the new configuration may name backends that were not there before.
        if state.endpoints != wanted.endpoints_version:
            send_endpoints(self._directory, wanted.endpoints)
        now = time.monotonic()
        if wanted.version not in state.configurations and now > self._reloading_until:
            reload(self._directory)
            self._reloading_until = now + _RELOAD_S
        return state

    def leave(self) -> None:
        """The pod is being deleted. Until it has ended, it serves the connections that still come to it."""
        if not self._leaving:
            self._leaving = True
            with suppress(NginxUnreachable):
                leave(self._directory)

    def forget(self) -> None:
        """The pod is gone."""
        shutil.rmtree(self._directory, ignore_errors=True)


def _replace(file: Path, text: str) -> None:
    """Write a file so that who reads it meanwhile sees the old or the new one."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)
