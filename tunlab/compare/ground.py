"""Where a comparison was made, and in plain words what that does to its figures."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterator, Sequence

from tunlab.compare.arena import IPERF3, Arena, cpus
from tunlab.compare.figures import Ground
from tunlab.errors import WorldError

_HINT = "sudo apt-get install --no-install-recommends iperf3"


def find_iperf3() -> str:
    """Its version. Raises WorldError where it is not there, before any lab is built."""
    try:
        said = subprocess.run([IPERF3, "--version"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        raise WorldError(f"{IPERF3} is not there (package iperf3)", hint=_HINT) from error
    return said.stdout.split("(")[0].strip()


def ground_of(
    arenas: Sequence[Arena], system: str, why_box: str, iperf3: str, load: float, seconds: int, runs: int
) -> Ground:
    """What all of them have in common; `load` is the machine's before the first of them was built."""
    first = arenas[0]
    kinds = (first.box.kind, first.box.kernel, first.congestion_control())
    return Ground(
        lab=first.live.topology.name,
        system=system,
        source=first.source,
        target=first.target,
        box=first.box.kind,
        why_box=why_box,
        kernel=first.box.kernel,
        cpus=cpus(),
        load=load,
        congestion_control=kinds[2],
        iperf3=iperf3,
        seconds=seconds,
        runs=runs,
        says=tuple(_says(*kinds, len(arenas), load)),
    )


def _says(box: str, kernel: str, congestion_control: str, labs: int, load: float) -> Iterator[str]:
    machine = f"{cpus()} CPUs, load {load:.1f} before it began"
    if box == "uml":
        yield (
            f"Box: user-mode Linux {kernel} on {platform.release()} ({machine}). All modes ran in such a guest: one "
            "CPU for both pods, both nodes and the wire, and dear system calls. So the figures are far below a real "
            "machine's, and what a mode adds to each packet weighs less than it would there."
        )
    else:
        yield (
            f"Box: namespaces of this kernel, Linux {kernel} ({machine}). Both pods, both nodes and the wire share "
            "those CPUs. A wire is a veth pair: no line rate, no latency of its own, no card that would take work off "
            "the CPU (checksums and segmentation are done in software)."
        )
    if load > cpus():
        yield "This machine was busy with other work, which shows in the ranges: measure again when it is quiet."
    idle = "; one was measured while the others stood idle" if labs > 1 else ""
    whose = "all processes in the box" if box == "uml" else "all processes in the box and of the kernel's ksoftirqd"
    yield (
        f"Measured by iperf3 (TCP: {congestion_control}; UDP as fast as the sender can, what arrived is counted; small "
        "packets carry 16 bytes) and ping, each echo as soon as the last was answered. CPU is that of "
        f"{whose} while TCP ran. The modes took turns in every round{idle}. Compare them with each other, nothing else."
    )
