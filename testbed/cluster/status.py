"""Errors of the cluster API, each with its Kubernetes ``Status`` object.

Codes and reasons are those of ``k8s.io/apimachinery/pkg/apis/meta/v1`` (``StatusReason``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from testbed.errors import TestbedError


class ApiError(TestbedError):
    """A request that the API refuses. Each subclass has its HTTP status ``code`` and ``reason``."""

    code = 500
    reason = "InternalError"

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    def status(self) -> dict[str, Any]:
        """The error as a ``Status`` object in wire form."""
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status


class BadRequest(ApiError):
    code, reason = 400, "BadRequest"


class Unauthorized(ApiError):
    """The request shows no token, or not the right one."""

    code, reason = 401, "Unauthorized"


class Forbidden(ApiError):
    code, reason = 403, "Forbidden"


class NotFound(ApiError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(ApiError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(ApiError):
    """The answer is wanted in a form that is not served."""

    code, reason = 406, "NotAcceptable"


class AlreadyExists(ApiError):
    code, reason = 409, "AlreadyExists"


class Conflict(ApiError):
    """The object has changed since it was read: read it again."""

    code, reason = 409, "Conflict"


class Expired(ApiError):
    """The wanted version has left the event history: list again."""

    code, reason = 410, "Expired"


class LengthRequired(ApiError):
    code, reason = 411, "LengthRequired"


class RequestEntityTooLarge(ApiError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(ApiError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(ApiError):
    """The object is well-formed JSON but no valid object."""

    code, reason = 422, "Invalid"


class TooManyRequests(ApiError):
    """Not now: to be asked again later."""

    code, reason = 429, "TooManyRequests"


def invalid(kind: str, name: str, causes: Iterable[tuple[str, str]]) -> Invalid:
    """The refusal of an object, with every field that is wrong: (field, what is wrong with it)."""
    found = list(causes)
    details = {
        "name": name,
        "kind": kind,
        "causes": [{"reason": "FieldValueInvalid", "message": text, "field": field} for field, text in found],
    }
    return Invalid(f'{kind} "{name}" is invalid: ' + "; ".join(f"{field}: {text}" for field, text in found), details)


_BY_REASON: dict[str, type[ApiError]] = {error.reason: error for error in ApiError.__subclasses__()}


def error_from_status(status: dict[str, Any]) -> ApiError:
    """The error that a ``Status`` object (status ``Failure``) stands for; code and reason are kept in any case."""
    reason = str(status.get("reason") or "InternalError")
    error = _BY_REASON.get(reason, ApiError)(str(status.get("message") or reason), status.get("details"))
    error.reason = reason
    error.code = int(status.get("code") or error.code)
    return error
