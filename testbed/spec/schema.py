"""The JSON Schema of the experiment file, for editors: ``python -m testbed.spec.schema > docs/experiment.schema.json``.

An editor that knows YAML schemas (the YAML language server) then completes fields and marks errors while one writes.
"""

from __future__ import annotations

import json
import sys

from testbed.spec.models import Experiment
from topologies import TOPOLOGIES

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_text() -> str:
    """The schema as it stands in the docs."""
    schema = Experiment.model_json_schema(by_alias=True)
    # Known to the topologies and not to the model, which does not depend on them.
    schema["$defs"]["Topology"]["properties"]["name"]["enum"] = list(TOPOLOGIES)
    return json.dumps({"$schema": DIALECT, **schema, "title": "Testbed experiment"}, indent=2) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text())
