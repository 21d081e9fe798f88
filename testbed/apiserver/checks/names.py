"""What may be a name, a label or the name of a port, and how the API server says that something is not.

``k8s.io/apimachinery/pkg/util/validation``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from testbed.apiserver.checks.words import Problem, invalid_value

_MOST_NAME, _MOST_LABEL, _MOST_PORT_NAME = 253, 63, 15


def _pattern(what: str, rule: str, examples: tuple[str, ...], expression: str) -> tuple[re.Pattern[str], str]:
    """A form, and what is said of whatever has another."""
    shown = ",  or ".join(f"'{example}'" for example in examples)
    return re.compile(expression), f"{what} {rule} (e.g. {shown}, regex used for validation is '{expression}')"


_ENDS = "must start and end with an alphanumeric character"
_SUBDOMAIN = _pattern(
    "a lowercase RFC 1123 subdomain",
    f"must consist of lower case alphanumeric characters, '-' or '.', and {_ENDS}",
    ("example.com",),
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*",
)
_LABEL = _pattern(
    "a lowercase RFC 1123 label",
    f"must consist of lower case alphanumeric characters or '-', and {_ENDS}",
    ("my-name", "123-abc"),
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?",
)
_SERVICE = _pattern(
    "a DNS-1035 label",
    "must consist of lower case alphanumeric characters or '-', start with an alphabetic character, "
    "and end with an alphanumeric character",
    ("my-name", "abc-123"),
    r"[a-z]([-a-z0-9]*[a-z0-9])?",
)
_KEY_NAME = _pattern(
    "name part",
    f"must consist of alphanumeric characters, '-', '_' or '.', and {_ENDS}",
    ("MyName", "my.name", "123-abc"),
    r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]",
)
_VALUE = _pattern(
    "a valid label",
    f"must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and {_ENDS}",
    ("MyValue", "my_value", "12345"),
    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
)
_CONFIG_KEY = _pattern(
    "a valid config key",
    "must consist of alphanumeric characters, '-', '_' or '.'",
    ("key.name", "KEY_NAME", "key-name"),
    r"[-._a-zA-Z0-9]+",
)
_ENVIRONMENT = _pattern(
    "a valid environment variable name",
    "must consist only of printable ASCII characters other than '='",
    ("my.env-name", "MY_ENV.NAME", "MyEnvName1"),
    r"[ -<>-~]+",
)


def _wrong(text: str, form: tuple[re.Pattern[str], str], most: int) -> str | None:
    if len(text) > most:
        return invalid_value(text, f"must be no more than {most} characters")
    return None if form[0].fullmatch(text) else invalid_value(text, form[1])


def wrong_name(text: str) -> str | None:
    """Why this is no name of most objects; None when it is."""
    return _wrong(text, _SUBDOMAIN, _MOST_NAME)


def wrong_label_name(text: str) -> str | None:
    """Why this is no name of a Namespace, container or volume; None when it is."""
    return _wrong(text, _LABEL, _MOST_LABEL)


def wrong_service_name(text: str) -> str | None:
    """Why this is no name of a Service; None when it is."""
    return _wrong(text, _SERVICE, _MOST_LABEL)


def wrong_config_key(text: str) -> str | None:
    """Why this is no key of a ConfigMap or Secret; None when it is."""
    return _wrong(text, _CONFIG_KEY, _MOST_NAME)


def wrong_variable_name(text: str) -> str | None:
    """Why this is no name of an environment variable; None when it is."""
    return None if _ENVIRONMENT[0].fullmatch(text) else invalid_value(text, _ENVIRONMENT[1])


def wrong_port_name(text: str) -> str | None:
    """Why this is no name of a container's port (RFC 6335, section 5.1); None when it is."""
    reasons = (
        (len(text) > _MOST_PORT_NAME, f"must be no more than {_MOST_PORT_NAME} characters"),
        (not re.fullmatch("[-a-z0-9]+", text), "must contain only alphanumeric characters (a-z, 0-9), and hyphens (-)"),
        (not re.search("[a-z]", text), "must contain at least one letter (a-z)"),
        ("--" in text, "must not contain consecutive hyphens"),
        (text[:1] == "-" or text[-1:] == "-", "must not begin or end with a hyphen"),
    )
    return next((invalid_value(text, reason) for is_so, reason in reasons if is_so), None)


def label_problems(labels: Mapping[str, str], at: str) -> Iterator[Problem]:
    """What is wrong with labels."""
    for key, value in labels.items():
        yield from key_problems(key, at)
        if wrong := _wrong(value, _VALUE, _MOST_LABEL):
            yield at, wrong


def key_problems(key: str, at: str) -> Iterator[Problem]:
    """What is wrong with the key of a label or annotation: ``[PREFIX/]NAME``."""
    prefix, slash, name = key.rpartition("/")
    if slash and not _SUBDOMAIN[0].fullmatch(prefix):
        yield at, invalid_value(key, f"prefix part {_SUBDOMAIN[1]}")
    if len(name) > _MOST_LABEL:
        yield at, invalid_value(key, f"name part must be no more than {_MOST_LABEL} characters")
    elif not _KEY_NAME[0].fullmatch(name):
        yield at, invalid_value(key, _KEY_NAME[1])
