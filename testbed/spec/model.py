"""The base of everything that an experiment file is made of."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Unknown fields are errors; values do not change after checking."""

    # In a file only the alias counts (see testbed.spec.structure); by name is for Python code.
    model_config = ConfigDict(extra="forbid", frozen=True, validate_by_name=True, validate_by_alias=True)
