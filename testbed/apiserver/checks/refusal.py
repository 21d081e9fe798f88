"""The answer to an object that is wrong: 422, with each field that is (``k8s.io/apimachinery/pkg/api/errors``)."""

from __future__ import annotations

from collections.abc import Sequence

from testbed.apiserver.checks.words import Problem
from testbed.cluster.kinds import Kind
from testbed.cluster.status import Invalid

_REASONS = {
    "Required value": "FieldValueRequired",
    "Unsupported value": "FieldValueNotSupported",
    "Duplicate value": "FieldValueDuplicate",
    "Not found": "FieldValueNotFound",
    "Forbidden": "FieldValueForbidden",
}


def refusal(kind: Kind, name: str, problems: Sequence[Problem]) -> Invalid:
    texts = [f"{field}: {text}" for field, text in problems]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    causes = [{"reason": _reason(text), "message": text, "field": field} for field, text in problems]
    details = {"name": name, **({"group": kind.group} if kind.group else {}), "kind": kind.name, "causes": causes}
    full_kind = f"{kind.name}.{kind.group}" if kind.group else kind.name
    return Invalid(f'{full_kind} "{name}" is invalid: {listed}', details)


def _reason(text: str) -> str:
    return _REASONS.get(text.partition(":")[0], "FieldValueInvalid")
