"""The kubectls of this machine: the one that is installed and, where that is another one, Debian's beside it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

_DEBIANS = Path(__file__).parent.parent / ".venv/kubernetes-client/usr/bin/kubectl"


def kubectls() -> list[Path]:
    """All there are, at least one: a machine without is not set up. Raises FileNotFoundError."""
    found = [Path(path) for path in (shutil.which("kubectl"), shutil.which(str(_DEBIANS))) if path]
    if not found:
        raise FileNotFoundError("kubectl is missing; make setup installs it")
    return found


class Kubectl:
    """One kubectl that talks to one API without TLS and token."""

    def __init__(self, program: Path, url: str, folder: Path) -> None:
        self._program, self._folder = program, folder
        self._config = folder / "kubeconfig"
        self._config.write_text(
            f"{{apiVersion: v1, kind: Config, clusters: [{{name: t, cluster: {{server: '{url}'}}}}], "
            "contexts: [{name: t, context: {cluster: t, user: ''}}], current-context: t}"
        )

    def run(self, *arguments: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command; ``check``: it must succeed."""
        done = self.start(*arguments, **environment)
        try:
            out, err = done.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.end(done)
            raise
        assert not check or done.returncode == 0, f"kubectl {' '.join(arguments)}: {out}{err}"
        return subprocess.CompletedProcess(arguments, done.returncode, out, err)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command."""
        variables = {
            "KUBECONFIG": str(self._config),
            "HOME": str(self._folder),
            "PATH": "/usr/bin:/bin",
        }
        return subprocess.Popen(
            [str(self._program), *arguments],
            env={**variables, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # some kubectl is only what starts another: they are ended together
        )

    @staticmethod
    def end(process: subprocess.Popen[str]) -> None:
        """End a command that goes on by itself."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=10)

    def __call__(self, *arguments: str, **environment: str) -> str:
        """What a command that succeeds prints."""
        return self.run(*arguments, **environment).stdout

    def refused(self, *arguments: str) -> str:
        """What a command that must fail says."""
        done = self.run(*arguments, check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr
