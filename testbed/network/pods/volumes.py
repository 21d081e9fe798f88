"""The volumes of pods: folders and files in the box's /run, and where they stand in a container.

What comes from ConfigMaps, Secrets and the pod itself is written as a kubelet writes it: the files in a folder with a
name of its own, ``..data`` a link to it, and each file's name a link through that one; a new version is a new folder
and one rename of the link, so that a program sees all of the old or all of the new.
https://kubernetes.io/docs/concepts/storage/volumes/
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from testbed.cluster.kinds import CONFIG_MAP, SECRET, Kind
from testbed.cluster.objects import JsonObject, object_namespace
from testbed.network.pods.environment import (
    Lookup,
    NotConfigured,
    contents,
    field_value,
    find,
    resource_value,
)
from testbed.spec.images import expanded, find_image

BOXES_OWN = Path("/run")
CLAIMS = BOXES_OWN / "claims"
# What pods write to their nodes' own disks, a folder a node.
NODE_FILES = BOXES_OWN / "node-files"
# What programs of these images share with the testbed, at the same path in the box.
_TESTBEDS = {"cluster-dns": BOXES_OWN / "cluster-dns", "ingress-nginx/controller": BOXES_OWN / "ingress-nginx"}
_WRITTEN = ("configMap", "secret", "downwardAPI", "projected")
_DATA = "..data"


class CannotMount(Exception):
    """A volume cannot be provided, or not be mounted where it is wanted."""


def make_volumes(pod: JsonObject, folder: Path, lookup: Lookup) -> None:
    """Provide all volumes of a pod below ``folder``. Raises CannotMount."""
    for volume in pod["spec"].get("volumes") or ():
        try:
            _make(pod, volume, folder, lookup)
        except (NotConfigured, OSError, ValueError) as error:  # a path with a NUL is a ValueError
            raise CannotMount(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error


def update_volumes(pod: JsonObject, folder: Path, lookup: Lookup) -> None:
    """Write again what comes from objects that may have changed. What is missing now stays as it was."""
    for volume in pod["spec"].get("volumes") or ():
        if any(kind in volume for kind in _WRITTEN):
            with suppress(NotConfigured, OSError, ValueError):
                _make(pod, volume, folder, lookup)


def container_mounts(
    pod: JsonObject, container: JsonObject, folder: Path, variables: Mapping[str, str]
) -> list[tuple[str, str, bool]]:
    """(source, target, read only) of each of a container's mounts, in the order in which they are to be made.

    Raises CannotMount.
    """
    volumes = {volume["name"]: volume for volume in pod["spec"].get("volumes") or ()}
    mounts = []
    for mount in container.get("volumeMounts") or ():
        volume = volumes.get(mount["name"])
        if volume is None:
            raise CannotMount(f'volume "{mount["name"]}" is not one of the pod\'s')
        source = _source(pod, volume, folder)
        sub_path = mount.get("subPath") or expanded(mount.get("subPathExpr") or "", variables)
        is_machines = "hostPath" in volume and _is_machines(source)
        if sub_path:
            source = _below(source, sub_path, may_make=not is_machines)
        target = os.path.normpath(f"/{mount['mountPath'].lstrip('/')}")
        read_only = bool(mount.get("readOnly")) or is_machines or any(kind in volume for kind in _WRITTEN)
        mounts.append((str(source), target, read_only))
    image = find_image(str(container.get("image") or ""))
    if image is not None and (shared := _TESTBEDS.get(image.name)) is not None:
        shared.mkdir(exist_ok=True)
        mounts.append((str(shared), str(shared), False))
    return sorted(mounts, key=lambda entry: entry[1].count("/"))


def referenced(pod: JsonObject) -> Iterator[tuple[Kind, str]]:
    """The ConfigMaps and Secrets that a pod's volumes and variables are made of: kind and name."""
    for volume in pod["spec"].get("volumes") or ():
        for source in ((volume.get("projected") or {}).get("sources") or (), (volume,)):
            for one in source:
                if "configMap" in one:
                    yield CONFIG_MAP, one["configMap"].get("name", "")
                if "secret" in one:
                    yield SECRET, one["secret"].get("secretName") or one["secret"].get("name", "")
    for container in (*(pod["spec"].get("initContainers") or ()), *(pod["spec"].get("containers") or ())):
        for source in container.get("envFrom") or ():
            for field_name, kind in (("configMapRef", CONFIG_MAP), ("secretRef", SECRET)):
                if field_name in source:
                    yield kind, source[field_name].get("name", "")
        for variable in container.get("env") or ():
            for field_name, kind in (("configMapKeyRef", CONFIG_MAP), ("secretKeyRef", SECRET)):
                if field_name in (variable.get("valueFrom") or {}):
                    yield kind, variable["valueFrom"][field_name].get("name", "")


def _make(pod: JsonObject, volume: JsonObject, folder: Path, lookup: Lookup) -> None:
    place = _named(folder, volume["name"])
    if any(kind in volume for kind in _WRITTEN):
        place.mkdir(parents=True, exist_ok=True)
        _publish(place, dict(_files(pod, volume, lookup)))
    elif "hostPath" in volume:
        _make_host_path(pod, volume["hostPath"])
    elif "persistentVolumeClaim" in volume or "ephemeral" in volume or "emptyDir" in volume:
        source = _source(pod, volume, folder)
        source.mkdir(parents=True, exist_ok=True)
        source.chmod(0o777)  # programs of images run as whoever they like
    else:
        kinds = ", ".join(sorted(set(volume) - {"name"})) or "no source"
        raise NotConfigured(f"volumes of this kind are not provided here ({kinds})")


def _source(pod: JsonObject, volume: JsonObject, folder: Path) -> Path:
    if "hostPath" in volume:
        return _host_path(pod, volume["hostPath"])
    if "persistentVolumeClaim" in volume:
        return _named(CLAIMS / object_namespace(pod), volume["persistentVolumeClaim"]["claimName"])
    return _named(folder, volume["name"])


def _named(folder: Path, name: str) -> Path:
    """The place of a name in a folder. Raises ValueError for one that leads out: not the API alone writes pods."""
    if not name or name in (".", "..") or "/" in name:
        raise ValueError(f"{name!r} is not a name")
    return folder / name


def _below(source: Path, sub_path: str, may_make: bool) -> Path:
    """A path within a volume. What is not there is made, as a folder. Raises CannotMount for one that leads out."""
    if PurePosixPath(sub_path).is_absolute() or ".." in PurePosixPath(sub_path).parts:
        raise CannotMount(f"subPath {sub_path} leads out of the volume")
    # A link (as in volumes of ConfigMaps) is followed now: such a mount does not follow later versions.
    real = (source / sub_path).resolve()
    if not real.is_relative_to(source.resolve()):
        raise CannotMount(f"subPath {sub_path} leads out of the volume")
    if not real.exists():
        if not may_make:
            raise CannotMount(f"subPath {sub_path} is not there, and the machine's disk can only be read")
        real.mkdir(parents=True, exist_ok=True)
    return real


def _host_path(pod: JsonObject, wanted: JsonObject) -> Path:
    """A path on the disk of the pod's node: the machine's where it has it, else one that only the node has."""
    path = Path(os.path.normpath(f"/{wanted['path'].lstrip('/')}"))
    return path if path.exists() else NODE_FILES / pod["spec"]["nodeName"] / path.relative_to("/")


def _is_machines(path: Path) -> bool:
    """Whether it is a part of the machine's own disk, which pods may only read."""
    return not path.is_relative_to(BOXES_OWN)


def _make_host_path(pod: JsonObject, wanted: JsonObject) -> None:
    path, kind = _host_path(pod, wanted), wanted.get("type") or ""
    if not path.exists():
        if kind in ("", "DirectoryOrCreate"):
            path.mkdir(parents=True, exist_ok=True)
        elif kind == "FileOrCreate":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    expected = {"Directory": Path.is_dir, "DirectoryOrCreate": Path.is_dir, "File": Path.is_file}
    expected |= {"FileOrCreate": Path.is_file, "Socket": Path.is_socket, "CharDevice": Path.is_char_device}
    if not expected.get(kind, Path.exists)(path):
        raise NotConfigured(f"hostPath type check failed: {wanted['path']} is not a {kind.lower() or 'path'}")


def _files(pod: JsonObject, volume: JsonObject, lookup: Lookup) -> Iterator[tuple[str, tuple[bytes, int]]]:
    """Path, contents and mode of each file of a volume."""
    if "projected" in volume:
        mode = volume["projected"].get("defaultMode", 0o644)
        for source in volume["projected"].get("sources") or ():
            if "serviceAccountToken" in source or "clusterTrustBundle" in source:
                continue  # there are no accounts here
            yield from _files(pod, {**source, "defaultMode": mode}, lookup)
        return
    if "downwardAPI" in volume:
        default = volume["downwardAPI"].get("defaultMode", volume.get("defaultMode", 0o644))
        for item in volume["downwardAPI"].get("items") or ():
            if "fieldRef" in item:
                text = field_value(pod, item["fieldRef"]["fieldPath"])
            elif (wanted := item.get("resourceFieldRef")) is None:
                raise NotConfigured(f"{item['path']} names no source")
            else:
                names = {container["name"]: container for container in pod["spec"]["containers"]}
                text = resource_value(names.get(wanted.get("containerName"), {}), wanted)
            yield _checked(item["path"]), (text.encode(), item.get("mode", default))
        return
    kind, source = (CONFIG_MAP, volume["configMap"]) if "configMap" in volume else (SECRET, volume["secret"])
    default = source.get("defaultMode", volume.get("defaultMode", 0o644))
    wire = find(kind, source, lookup)
    entries = contents(wire) if wire is not None else {}
    if not source.get("items"):
        for name, content in entries.items():
            yield _checked(name), (content, default)
    for item in source.get("items") or ():
        if item["key"] in entries:
            yield _checked(item["path"]), (entries[item["key"]], item.get("mode", default))
        elif not source.get("optional"):
            raise NotConfigured(f"references non-existent {kind.name.lower()} key: {item['key']}")


def _checked(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or parts[0] == "/" or ".." in parts:
        raise NotConfigured(f"{path!r} is not a path within a volume")
    return path


def _publish(place: Path, files: Mapping[str, tuple[bytes, int]]) -> None:
    """Make the files those of the volume, all at once; nothing happens when they are already."""
    data = place / _DATA
    before = data.readlink().name if data.is_symlink() else ""
    if before and _same(place / before, files):
        return
    number = int(before.removeprefix("..")) + 1 if before else 1
    new = place / f"..{number}"
    for path, (text, mode) in files.items():
        file = new / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text)
        file.chmod(mode)
    new.mkdir(exist_ok=True)
    link = place / "..data_tmp"
    link.unlink(missing_ok=True)
    link.symlink_to(new.name)
    link.replace(data)
    tops = {PurePosixPath(path).parts[0] for path in files}
    for top in tops:
        if not (place / top).is_symlink():
            (place / top).symlink_to(f"{_DATA}/{top}")
    for entry in place.iterdir():
        if entry.is_symlink() and entry.name != _DATA and entry.name not in tops:
            entry.unlink()
    if before:
        shutil.rmtree(place / before)


def _same(folder: Path, files: Mapping[str, tuple[bytes, int]]) -> bool:
    present = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return present.keys() == files.keys() and all(
        path.read_bytes() == files[name][0] and path.stat().st_mode & 0o777 == files[name][1]
        for name, path in present.items()
    )
