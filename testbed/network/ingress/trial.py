"""Whether nginx can read a configuration, found out by nginx itself before a running one is given it."""

from __future__ import annotations

import subprocess
from pathlib import Path

_LIMIT_S = 20
_MODULE_HINT = "nginx has no Lua here: apt-get install libnginx-mod-http-lua"


def configuration_error(directory: Path, text: str) -> str:
    """What ``nginx -t`` says against a configuration for ``directory``; "" when it is fine."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "nginx.conf"
    file.write_text(text)
    argv = ["nginx", "-e", "stderr", "-t", "-q", "-c", str(file)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"nginx -t: {error}"
    if done.returncode == 0:
        return ""
    if "http_lua_module.so" in done.stderr or "ndk_http_module.so" in done.stderr:
        return _MODULE_HINT
    lines = [line for line in done.stderr.splitlines() if "[emerg]" in line] or done.stderr.splitlines()
    return lines[0].partition("[emerg] ")[2] or lines[0] if lines else f"nginx -t ended with {done.returncode}"
