"""Prints what the lab costs here: time and memory, as medians over several runs. Nothing is asserted.

.venv/bin/python bench/run.py [lab|cni|conform|decode|agent] ...     all but `conform` when nothing is named
"""

from __future__ import annotations

import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tunlab.box.box import OwnBox
from tunlab.box.inside.pcapng import ETHERNET, interface_block, packet_block, section_block, statistics_block
from tunlab.box.machine import machine
from tunlab.box.start import fresh_run_dir, start_box
from tunlab.check.convergence import wait_converged
from tunlab.lab.load import load_lab
from tunlab.lab.topology import Mode
from tunlab.live.lab import LiveLab
from tunlab.runtime.cni import Sandbox
from tunlab.systems.catalogue import find_system

ROOT = Path(__file__).resolve().parents[1]
LAB = "same-subnet"
CASES: tuple[tuple[str, Mode], ...] = (("namespaces", "vxlan"), ("namespaces", "none"), ("uml", "ipip"))
LAB_RUNS, CNI_RUNS, DECODE_RUNS = 5, 10, 3
FRAMES = 1000

Steps = dict[str, list[float]]


@contextmanager
def timed(steps: Steps, name: str) -> Iterator[None]:
    """Add the seconds that this takes to those of its step."""
    started = time.perf_counter()
    yield
    steps.setdefault(name, []).append(time.perf_counter() - started)


def ready_lab(kind: str, mode: Mode, steps: Steps) -> LiveLab:
    """A fresh lab with its pods up and every block route in every kernel; what each step took is noted."""
    with timed(steps, "total"):
        with timed(steps, "start the box"):
            box: OwnBox = start_box(kind, fresh_run_dir(f"bench-{kind}-{mode}"))
        live = LiveLab(load_lab(LAB), box)
        try:
            with timed(steps, "build segments, router, hosts"):
                live.build()
            installation = live.choose(find_system("refnet"), mode)
            with timed(steps, "place files"):
                installation.place_files()
            with timed(steps, "start etcd"):
                installation.start_store()
            with timed(steps, "apply pools, claim blocks"):
                installation.run_setup()
            with timed(steps, "start agents until ready"):
                installation.start_daemons()
                installation.wait_ready(40.0)
            with timed(steps, "launch two pods"):
                live.launch_all()
            with timed(steps, "wait for block routes"):
                wait_converged(live)
        except BaseException:
            box.close()
            raise
    return live


def bench_lab() -> None:
    """A two-node lab from nothing to ready, step by step."""
    for kind, mode in possible_cases():
        steps: Steps = {}
        for _ in range(LAB_RUNS):
            live = ready_lab(kind, mode, steps)
            with timed(steps, "take it down (not in total)"):
                live.box.close()
        print(f"\nlab {LAB}, {kind}, {mode}: {LAB_RUNS} runs, seconds")
        show(steps, "s", digits=2)


def bench_cni() -> None:
    """One ADD and one DEL of refnet's plugin, as the runtime sees it from outside the box."""
    for kind, mode in possible_cases():
        live = ready_lab(kind, mode, {})
        steps: Steps = {}
        try:
            for number in range(CNI_RUNS):
                pod = Sandbox(f"bench{number}", live.topology.nodes[0].name)
                live.runtime.make_network(pod.pod)
                with timed(steps, "ADD"):
                    live.runtime.add(pod)
                with timed(steps, "DEL"):
                    live.runtime.delete(pod)
                live.runtime.drop_network(pod.pod)
        finally:
            live.box.close()
        print(f"\ncni, {kind}, {mode}: {CNI_RUNS} runs, milliseconds")
        show({name: [1000 * each for each in times] for name, times in steps.items()}, "ms", digits=0)


def bench_decode() -> None:
    """Both decoders over a file of 1,000 VXLAN frames, and that both agree on all of it."""
    from tunlab.wire.decode import decode

    steps: Steps = {}
    with tempfile.TemporaryDirectory(prefix="tunlab-bench-") as folder:
        path = Path(folder, "frames.pcapng")
        path.write_bytes(capture_bytes(FRAMES))
        for _ in range(DECODE_RUNS):
            with timed(steps, "decode twice and compare"):
                seen = decode(path, needs_sentinels=False)
            assert len(seen.frames) == FRAMES, f"{len(seen.frames)} frames, wanted {FRAMES}"
    print(f"\ndecode, {FRAMES} frames of eth ip udp vxlan eth ip icmp: {DECODE_RUNS} runs, seconds")
    show(steps, "s", digits=2)


def capture_bytes(count: int) -> bytes:
    """A capture of so many echo requests in VXLAN."""
    from scapy.layers.inet import ICMP, IP, UDP
    from scapy.layers.l2 import Ether
    from scapy.layers.vxlan import VXLAN

    blocks = [section_block(), interface_block("node1/eth0", ETHERNET)]
    start_ns = 1_700_000_000_000_000_000
    for number in range(count):
        echo = IP(src="10.244.1.2", dst="10.244.2.2", ttl=63) / ICMP(id=4242, seq=number) / bytes(56)
        inner = Ether(src="66:00:00:00:01:01", dst="66:00:00:00:02:01") / echo
        head = IP(src="192.168.1.1", dst="192.168.1.2") / UDP(sport=45678, dport=4789, chksum=0)
        frame = Ether(src="02:00:00:00:01:01", dst="02:00:00:00:02:01") / head / VXLAN(flags=8, vni=4096) / inner
        blocks.append(packet_block(0, start_ns + number * 1_000_000, bytes(frame), flags=2))
    blocks.append(statistics_block(0, start_ns, count, 0))
    return b"".join(blocks)


def bench_agent() -> None:
    """What a node's programs keep resident, and what a whole standing lab costs the machine."""
    for kind, mode in possible_cases():
        live = ready_lab(kind, mode, {})
        try:
            print(f"\nmemory, {kind}, {mode}, MiB (Pss: shared pages are counted once)")
            show(programs_mib(live), "MiB", digits=1)
            folder = live.box.run_dir
            whole = sum(pss_kib(pid) for pid in family(str(folder))) / 1024
            print(f"  {'the whole box, this lab of two nodes':<40} {whole:8.1f} MiB in processes")
            if kind == "namespaces":
                print(f"  {'files in memory (etcd, overlays, /run)':<40} {tmpfs_mib(live):8.1f} MiB")
        finally:
            live.box.close()


def programs_mib(live: LiveLab) -> Steps:
    """Resident memory of every program, by its name, one figure for each host that runs it."""
    found: Steps = {}
    for host in (*live.node_names(), live.topology.store.name):
        script = (
            "for p in /proc/[0-9]*; do"
            ' echo "$(tr "\\0" " " <"$p/cmdline")|$(grep ^Pss: "$p/smaps_rollup")"; done 2>/dev/null'
        )
        for line in live.box.run(host, ["bash", "-c", script]).out.splitlines():
            command, _, pss = line.rpartition("|")
            name, number = name_of(command), re.search(r"\d+", pss)
            if name and number:
                found.setdefault(name, []).append(int(number.group()) / 1024)
    return found


def name_of(command: str) -> str:
    """What a command line is called here; "" for the shell that asks."""
    for name in ("refnet-agent", "etcd", "bird"):
        if re.search(rf"(^|/){name}( |$)", command):
            return name
    return "the judge's keeper of a host" if "first.py" in command else ""


def tmpfs_mib(live: LiveLab) -> float:
    """What the files of all hosts that live in memory take."""
    total_kib = 0
    for host in (*live.node_names(), live.topology.store.name):
        out = live.box.run(host, ["df", "-k", "--output=used", "/run"]).out
        total_kib += int(out.split()[-1])
    return total_kib / 1024


def family(mark: str) -> set[int]:
    """The processes whose command line holds `mark`, and all that descend from them."""
    parents: dict[int, int] = {}
    chosen: set[int] = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it ended meanwhile
            continue
        parents[int(folder.name)] = int(status[1])
        if mark in command and int(folder.name) != os.getpid():
            chosen.add(int(folder.name))
    while more := {pid for pid, parent in parents.items() if parent in chosen} - chosen:
        chosen |= more
    return chosen


def pss_kib(pid: int) -> int:
    """The proportional share of one process; 0 when it has ended or may not be read."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    found = re.search(r"^Pss:\s+(\d+)", text, flags=re.MULTILINE)
    return int(found.group(1)) if found else 0


def bench_conform() -> None:
    """The whole table: every lab in every mode, once, by the front door."""
    with tempfile.TemporaryDirectory(prefix="tunlab-bench-") as folder:
        started = time.perf_counter()
        done = subprocess.run(
            [ROOT / "lab", "conform", "--out", str(Path(folder, "run"))], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - started
    lines = done.stdout.splitlines() or ["it said nothing"]
    print(f"\nconform, everything, one run: {seconds:.1f} s, exit code {done.returncode}")
    print(
        "\n".join(f"  {line[:200]}" for line in lines if line.startswith(("FAILED ", "BROKEN ")) or line is lines[-1])
    )


def possible_cases() -> tuple[tuple[str, Mode], ...]:
    """Those that this machine can carry; says which it leaves out and why."""
    chosen = []
    for kind, mode in CASES:
        verdict = machine().can(kind, mode)
        if verdict.ok:
            chosen.append((kind, mode))
        else:
            print(f"\nleft out: {kind}, {mode}: {verdict.why}")
    return tuple(chosen)


def show(steps: Mapping[str, Sequence[float]], unit: str, *, digits: int) -> None:
    """A line per step: median, least and most."""
    for name, values in steps.items():
        middle, least, most = statistics.median(values), min(values), max(values)
        print(f"  {name:<40} {middle:8.{digits}f} {unit}   ({least:.{digits}f} to {most:.{digits}f})")


def machine_line() -> str:
    """What these figures were measured on; the load says whether something else was at work."""
    memory_kib = int(re.findall(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[0])
    model = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    load = ", ".join(f"{each:.1f}" for each in os.getloadavg())
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, kernel {platform.release()}, {os.cpu_count()} cores"
        f" ({model[0] if model else 'unknown'}), {memory_kib / 2**20:.0f} GiB, load before {load}"
    )


BENCHES: Mapping[str, Callable[[], None]] = {
    "lab": bench_lab,
    "cni": bench_cni,
    "decode": bench_decode,
    "agent": bench_agent,
    "conform": bench_conform,
}


def main(words: Sequence[str]) -> int:
    """Run what is named; 2 for a word that names nothing."""
    strangers = [word for word in words if word not in BENCHES]
    if strangers:
        print(f"bench: {', '.join(strangers)}: no such bench\n  legal: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    print(machine_line())
    for name, bench in BENCHES.items():
        if name in words or (not words and name != "conform"):
            bench()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
