"""What `/metrics` says, in Prometheus' text format; names are Felix's where they mean the same."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from refnet.agent.listener import Reply

KIND = "text/plain; version=0.0.4; charset=utf-8"
# Felix's numbers for felix_resync_state.
WAITING, READING, IN_SYNC = 1, 2, 3


@dataclass
class Counters:
    """What the agent counts while it lives; seconds are of the monotonic clock."""

    passes: int = 0
    pass_seconds: float = 0.0
    failures: int = 0
    kernel_lines: int = 0
    resyncs: int = 0


@dataclass(frozen=True)
class Metric:
    """One name with its samples, by label text (`""` or `{state="up"}`)."""

    name: str
    kind: str
    help: str
    samples: Mapping[str, float]


def metrics(path: str, found: Iterator[Metric]) -> Reply:
    """The answer at one moment."""
    if path != "/metrics":
        return Reply(404, "there is /metrics\n")
    return Reply(200, "".join(map(_text, found)), KIND)


def gauge(name: str, about: str, value: float) -> Metric:
    return Metric(name, "gauge", about, {"": value})


def counter(name: str, about: str, value: float) -> Metric:
    return Metric(name, "counter", about, {"": value})


def counted(counters: Counters) -> Iterator[Metric]:
    """The agent's own counters."""
    yield counter("felix_int_dataplane_failures", "Passes that left the kernel not as wanted.", counters.failures)
    yield Metric(
        "felix_int_dataplane_apply_time_seconds",
        "summary",
        "Seconds that one pass over store and kernel took.",
        {"_sum": counters.pass_seconds, "_count": counters.passes},
    )
    yield counter("felix_resyncs_started", "How often the store was read anew, whole.", counters.resyncs)
    yield counter("refnet_kernel_lines_total", "Lines fed to ip and bridge.", counters.kernel_lines)


def of_process() -> Iterator[Metric]:
    """The agent's own memory, processor time and files, under Prometheus' usual names."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    yield gauge("process_resident_memory_bytes", "Resident memory in bytes.", pages * os.sysconf("SC_PAGE_SIZE"))
    yield counter("process_cpu_seconds_total", "Processor time in seconds.", used.ru_utime + used.ru_stime)
    yield gauge("process_open_fds", "Open file descriptors.", sum(1 for _ in Path("/proc/self/fd").iterdir()))


def labelled(**labels: str) -> str:
    """A sample's label text."""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _text(metric: Metric) -> str:
    lines = [f"# HELP {metric.name} {metric.help}", f"# TYPE {metric.name} {metric.kind}"]
    lines += [f"{metric.name}{label} {value:.10g}" for label, value in metric.samples.items()]
    return "".join(f"{line}\n" for line in lines)
