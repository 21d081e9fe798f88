"""The types of an experiment's fields: text that must have a form, and numbers within limits."""

from __future__ import annotations

import re
from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from testbed.spec.endpoints import DNS_LABEL, DNS_LABEL_FORM, parse_endpoint, parse_target
from testbed.spec.units import parse_delay_ms, parse_loss_pct, parse_rate_mbit

NAME_FORM = "at most 63 of a-z, 0-9, _, . and -, beginning and ending with a letter or digit"


def _accepted_by(parse: Callable[[str], object]) -> AfterValidator:
    """Keep the text as it was written, if ``parse`` takes it."""

    def check(text: str) -> str:
        parse(text)
        return text

    return AfterValidator(check)


def _regular_expression(text: str) -> None:
    try:
        groups = re.compile(text).groups
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression ({error})") from None
    if groups < 1:
        raise ValueError("a regular expression with a group: its first group is the figure")


def _json_path(text: str) -> None:
    if not re.fullmatch(r"[\w-]+(\[(\d+|\*)\])*(\.[\w-]+(\[(\d+|\*)\])*)*", text):
        raise ValueError("keys joined by dots, [0] for a list's item, [*] for all: end.sum_sent.bits_per_second")


def _dns_label(text: str) -> None:
    if not DNS_LABEL.fullmatch(text):
        raise ValueError(DNS_LABEL_FORM)


def _url_path(text: str) -> None:
    if not re.fullmatch(r"/[!-~]*", text):
        raise ValueError("a path with its query, beginning with /, without spaces: /index.html?a=1")


def _switch(value: Any) -> Any:
    """YAML 1.1 reads ``on`` and ``off`` as booleans."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


def parse_cidr(text: str) -> IPv4Network:
    """An IPv4 network in CIDR form. Raises ValueError with the form that is expected."""
    try:
        return IPv4Network(text)
    except ValueError:
        pass
    try:
        suggestion = f"; did you mean {IPv4Network(text, strict=False)}?"
    except ValueError:
        suggestion = ""
    raise ValueError(f"an IPv4 network with prefix length, without host bits, for example 10.244.0.0/16{suggestion}")


Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9_.-]{0,61}[a-z0-9])?$")]
PositiveInt = Annotated[int, Field(gt=0, le=1_000_000, strict=True)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=3600, strict=True)]
Rate = Annotated[str, _accepted_by(parse_rate_mbit)]
Delay = Annotated[str, _accepted_by(parse_delay_ms)]
Loss = Annotated[str, _accepted_by(parse_loss_pct)]
CIDR = Annotated[str, _accepted_by(parse_cidr)]
Endpoint = Annotated[str, _accepted_by(parse_endpoint)]
TargetText = Annotated[str, _accepted_by(parse_target)]
DnsLabel = Annotated[str, _accepted_by(_dns_label)]
RegularExpression = Annotated[str, _accepted_by(_regular_expression)]
JsonPath = Annotated[str, _accepted_by(_json_path)]
UrlPath = Annotated[str, _accepted_by(_url_path)]
Switch = Annotated[Literal["auto", "on", "off"], BeforeValidator(_switch)]
Parameters = dict[str, Annotated[int, Field(strict=True)]]
