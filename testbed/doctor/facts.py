"""What was found out about a machine, as values: gathering, requirements and rendering meet only here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

# What a user may ask for; auto takes the kernel's Open vSwitch where it is there.
DatapathWish = Literal["auto", "kernel", "user"]
ModuleState = Literal["loaded", "loadable", "absent"]


@dataclass(frozen=True)
class Trial:
    """Whether something worked when it was tried, and what was said when it did not."""

    ok: bool
    detail: str = ""


@dataclass(frozen=True)
class BoxTrial:
    """One kind of sealed box (of root, or of an ordinary user): whether it opens, and what works inside."""

    opened: Trial
    features: Mapping[str, Trial] = field(default_factory=dict)

    def feature(self, name: str) -> Trial:
        """The trial of one of :data:`testbed.doctor.trials.FEATURES`; nothing works in a box that never opened."""
        return self.features.get(name, Trial(False, self.opened.detail or "not tried"))


@dataclass(frozen=True)
class Facts:
    """A machine.

    ``root_box`` is None for an ordinary user, who cannot try it. ``modules`` are kernel modules. ``tools`` and
    ``python_packages`` map the names of those that are there to their versions ("" when none is told); ``sysctls`` are
    the settings that can forbid user namespaces, as text, those that this kernel has.
    """

    is_root: bool
    kernel: str
    cores: int
    memory_mib: int
    root_box: BoxTrial | None
    rootless_box: BoxTrial
    modules: Mapping[str, ModuleState]
    tools: Mapping[str, str]
    python_packages: Mapping[str, str]
    sysctls: Mapping[str, str] = field(default_factory=dict)

    @property
    def box(self) -> BoxTrial:
        """The box that a run started by this user would use."""
        return self.root_box if self.is_root and self.root_box is not None else self.rootless_box

    @property
    def has_kernel_datapath(self) -> bool:
        """The kernel's Open vSwitch is loaded."""
        return self.modules.get("openvswitch") == "loaded"
