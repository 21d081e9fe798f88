"""Files that images bring, where the machine has others or none: a layer between the machine's files and the pods' own.

Being files of the container, they may be covered by volumes, and read or changed by its programs, as in a real image.
"""

from __future__ import annotations

from pathlib import Path

_PROGRAMS = Path(__file__).parents[1] / "programs"
_NGINX_TEXTS = {"etc/nginx/nginx.conf": "nginx.conf", "etc/nginx/conf.d/default.conf": "nginx_default.conf"}
# As in https://github.com/nginx/docker-nginx, so that `kubectl logs` has what is written there.
_NGINX_LOGS = {"var/log/nginx/access.log": "/dev/stdout", "var/log/nginx/error.log": "/dev/stderr"}
# On the machine these may be another user's, who is not known to an ordinary user's box: nginx would refuse them.
_NGINX_FOLDERS = ("body", "proxy", "fastcgi", "uwsgi", "scgi")


def write_image_files(folder: Path, machine: Path = Path("/")) -> None:
    """Write them below ``folder``, once for all pods. Raises OSError."""
    for path, name in _NGINX_TEXTS.items():
        _write(folder / path, (_PROGRAMS / name).read_text())
    for path, target in _NGINX_LOGS.items():
        link = folder / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(target)
    for name in _NGINX_FOLDERS:
        (folder / "var/lib/nginx" / name).mkdir(parents=True, exist_ok=True)
    (folder / "var/cache/nginx").mkdir(parents=True, exist_ok=True)
    # `user nginx` in a configuration is root: all programs are, and an ordinary user's box knows no other.
    _write(
        folder / "etc/passwd", _with_user((machine / "etc/passwd").read_text(), "nginx:x:0:0::/nonexistent:/bin/false")
    )
    _write(folder / "etc/group", _with_user((machine / "etc/group").read_text(), "nginx:x:0:"))


def _with_user(text: str, line: str) -> str:
    """A passwd(5) or group(5) in which a name means what this line says."""
    name = line.partition(":")[0]
    others = [other for other in text.splitlines() if other.partition(":")[0] != name]
    return "\n".join([*others, line]) + "\n"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
