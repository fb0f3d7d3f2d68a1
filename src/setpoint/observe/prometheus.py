"""Prometheus text exposition format, version 0.0.4.

Our own forty lines and not ``prometheus_client``: the counts are kept where requests pass (see ``ModelMetrics``), so
only writing is left, and the library costs the idle node several MiB. A test reads the text with the library's parser.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from setpoint.observe.histogram import Buckets

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Sample(msgspec.Struct, frozen=True):
    """One time series: labels and a number, or buckets with the factor from their values to the family's unit."""

    labels: dict[str, str]
    value: float | Buckets
    scale: float = 1.0


class Family(msgspec.Struct, frozen=True):
    """All series of one metric.

    Attributes:
        name: with its unit, such as ``setpoint_request_duration_seconds``.
        kind: ``counter``, ``gauge`` or ``histogram``.
        help: one sentence.
        samples: its series.
    """

    name: str
    kind: str
    help: str
    samples: tuple[Sample, ...]


def render(families: Iterable[Family]) -> bytes:
    """The text for a scrape."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {family.help}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            if isinstance(sample.value, Buckets):
                lines.extend(_histogram(family.name, sample.labels, sample.value, sample.scale))
            else:
                lines.append(f"{family.name}{_labels(sample.labels)} {_number(sample.value)}")
    return ("\n".join(lines) + "\n").encode()


def _histogram(name: str, labels: dict[str, str], buckets: Buckets, scale: float) -> list[str]:
    lines = [
        f"{name}_bucket{_labels({**labels, 'le': f'{bound * scale:.12g}'})} {count}"
        for bound, count in buckets.cumulative
    ]
    lines.append(f"{name}_bucket{_labels({**labels, 'le': '+Inf'})} {buckets.count}")
    lines.append(f"{name}_sum{_labels(labels)} {_number(buckets.total * scale)}")
    lines.append(f"{name}_count{_labels(labels)} {buckets.count}")
    return lines


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return repr(value)  # every digit: what a rate is taken of must not stand still while its last digits move
