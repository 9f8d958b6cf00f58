"""Counters of the gateway in Prometheus's text format, version 0.0.4.

What belongs here: counting and rendering. What does not: which things are counted where.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import Final

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds
_HELP: Final = {
    "recoflow_requests_total": ("counter", "Requests by endpoint and status."),
    "recoflow_events_accepted_total": ("counter", "Events that are on disk and were acknowledged."),
    "recoflow_events_refused_total": ("counter", "Events that broke a rule, by code of the rule."),
    "recoflow_pending_bytes": ("gauge", "Bodies that are being read or wait for the disk."),
    "recoflow_spool_segments": ("gauge", "Sealed segments that wait for the ingest."),
    "recoflow_spool_free_bytes": ("gauge", "Free space of the spool's disk."),
    "recoflow_commit_seconds": ("histogram", "Time of one group commit: write and fsync."),
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Everything that is counted; used by one event loop."""

    def __init__(self) -> None:
        self._values: dict[str, Counter[Labels]] = defaultdict(Counter)
        self._buckets: dict[Labels, list[int]] = defaultdict(lambda: [0] * (len(_BOUNDS) + 1))
        self._sums: Counter[Labels] = Counter()

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count up."""
        self._values[name][tuple(labels.items())] += amount  # type: ignore[assignment]  # Counter counts floats as well

    def set(self, name: str, value: float, **labels: str) -> None:
        """State a gauge."""
        self._values[name][tuple(labels.items())] = value  # type: ignore[assignment]

    def observe_commit(self, environment: str, seconds: float) -> None:
        """Add one group commit to the histogram."""
        labels = (("environment", environment),)
        self._buckets[labels][bisect_left(_BOUNDS, seconds)] += 1
        self._sums[labels] += seconds  # type: ignore[assignment]

    def text(self) -> str:
        """All of it as Prometheus scrapes it."""
        lines = []
        for name, (kind, meaning) in _HELP.items():
            lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{_shown(labels)} {value:.12g}" for labels, value in sorted(self._values[name].items())]
            if kind == "histogram":
                lines += self._histogram(name)
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str) -> list[str]:
        lines = []
        for labels, buckets in sorted(self._buckets.items()):
            count = 0
            for bound, amount in zip((*map(str, _BOUNDS), "+Inf"), buckets, strict=True):
                count += amount
                lines.append(f"{name}_bucket{_shown((*labels, ('le', bound)))} {count}")
            lines += [f"{name}_sum{_shown(labels)} {self._sums[labels]:.6f}", f"{name}_count{_shown(labels)} {count}"]
        return lines


def _shown(labels: Labels) -> str:
    pairs = (f'{name}="{_escaped(value)}"' for name, value in labels)
    return f"{{{','.join(pairs)}}}" if labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
