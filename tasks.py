"""The menu: what one types, a sentence, sensible defaults, one call each. The work is behind it, in tunlab/command/."""

from __future__ import annotations

from invoke import Context

from tunlab.command.options import task

# Each task imports what it calls, so that the menu opens in a blink.


@task()
def doctor(c: Context, json: bool = False) -> int:
    """Say what this machine can run in which box, and how to mend it.

    Example: ./lab doctor
    """
    from tunlab.command import doctor as command

    return command.examine(as_json=json)


@task()
def labs(c: Context, json: bool = False) -> None:
    """List the labs: what each is made of, and what one will see.

    Example: ./lab labs
    """
    from tunlab.command import labs as command

    command.table(as_json=json)


@task(positional=["lab"])
def plan(c: Context, lab: str) -> None:
    """Print the exact commands of a lab as a shell script for root.

    Example: ./lab plan same-subnet > same-subnet.sh
    """
    from tunlab.command import labs as command

    command.plan(lab)


@task(positional=["lab"])
def build(c: Context, lab: str, box: str = "auto", show: bool = False) -> None:
    """Build a lab's hosts, segments and routers; leave it standing.

    Example: ./lab build same-subnet
    """
    from tunlab.command import standing

    standing.build(lab, box, show)


@task(iterable=["with_"])
def install(
    c: Context, with_: list[str], system: str = "refnet", mode: str = "ipip", lab: str = "", show: bool = False
) -> None:
    """Install a system on each node: agent and CNI plugin.

    Example: ./lab install --system refnet --mode vxlan
    """
    from tunlab.command import standing

    standing.install(lab, system, mode, show, with_)


@task(positional=["pod"])
def launch(c: Context, pod: str = "", node: str = "", lab: str = "", show: bool = False) -> None:
    """Launch the lab's pods, or one more.

    Example: ./lab launch pod3 --node node2
    """
    from tunlab.command import standing

    standing.launch(lab, pod, node, show)


@task(positional=["lab"], iterable=["with_"])
def up(
    c: Context,
    lab: str,
    with_: list[str],
    system: str = "refnet",
    mode: str = "ipip",
    box: str = "auto",
    show: bool = False,
) -> None:
    """Build, install, launch in one go; the lab stands until `down`.

    Example: ./lab up same-subnet --mode vxlan
    """
    from tunlab.command import standing

    standing.up(lab, system, mode, box, show, with_)


@task(positional=["lab"])
def status(c: Context, lab: str = "", json: bool = False) -> int:
    """Show standing labs: nodes, pods, addresses, routes, sessions.

    Example: ./lab status same-subnet --json
    """
    from tunlab.command import status as command

    return command.status(lab, json)


@task(name="exec", positional=["place"], iterable=["command"])
def exec_(c: Context, place: str, command: list[str], lab: str = "") -> int:
    """Run a command on a host or in a pod, as typed after --.

    Example: ./lab exec node1 -- ip route
    """
    from tunlab.command import inside

    return inside.exec(lab, place, command)


@task(positional=["place"])
def shell(c: Context, place: str, lab: str = "") -> int:
    """Open a shell on a host or in a pod.

    Example: ./lab shell node1
    """
    from tunlab.command import inside

    return inside.shell(lab, place)


@task(positional=["a", "b"])
def ping(c: Context, a: str, b: str, count: int = 3, lab: str = "") -> int:
    """Ping from one pod or host to another.

    Example: ./lab ping pod1 pod2
    """
    from tunlab.command import inside

    return inside.ping(lab, a, b, count)


@task(positional=["lab"])
def watch(c: Context, lab: str = "", port: int = 0, tui: bool = False, no_browser: bool = False) -> int:
    """Watch packets move through a lab: a page, or the terminal.

    Example: ./lab watch mixed
    """
    from tunlab.command import watch as command

    return command.watch(lab, port, tui=tui, no_browser=no_browser)


@task(positional=["a", "b"])
def trace(
    c: Context,
    a: str,
    b: str,
    proto: str = "icmp",
    size: int = 56,
    port: int = 0,
    df: bool = False,
    json: bool = False,
    svg: str = "",
    w: str = "",
    ipv6: bool = False,
    lab: str = "",
    up: str = "",
) -> int:
    """Follow one packet: each hop, its decision and its headers.

    Example: ./lab trace pod1 pod2 --proto tcp
    """
    from tunlab.command import trace as command

    return command.trace(lab, a, b, proto, size, port, df, json, svg, w, ipv6, up)


@task(positional=[], iterable=["modes"])
def compare(
    c: Context,
    modes: list[str],
    lab: str = "same-subnet",
    system: str = "refnet",
    box: str = "auto",
    seconds: int = 2,
    runs: int = 5,
    png: bool = False,
    out: str = "",
) -> None:
    """Measure what each mode costs between the same two pods.

    Example: ./lab compare --modes ipip,vxlan,none
    """
    from tunlab.command import compare as command

    command.run(modes=modes, lab=lab, system=system, box=box, seconds=seconds, runs=runs, png=png, out=out)


@task(positional=["name"])
def lesson(c: Context, name: str = "", step: int = 0, run: bool = False, reset: bool = False) -> None:
    """Walk through a lesson on a real lab; alone it lists them.

    Example: ./lab lesson veth-and-169.254.1.1
    """
    from tunlab.command import lesson as command

    command.lesson(name, step, run, reset)


@task(positional=["tap"])
def capture(c: Context, tap: str, w: str = "", lab: str = "") -> int:
    """Capture on a tap: a live line per frame, or a pcapng file.

    Example: ./lab capture node1/eth0 -w x.pcapng
    """
    from tunlab.command import capture as command

    return command.capture(lab, tap, w)


@task(positional=[], iterable=["mode", "lab", "with_"])
def conform(
    c: Context,
    mode: list[str],
    lab: list[str],
    with_: list[str],
    system: str = "refnet",
    level: str = "core",
    box: str = "auto",
    k: str = "",
    keep: bool = False,
    timeout: float = 0.0,
    out: str = "",
    baseline: str = "",
    shard: str = "",
    bundle: bool = False,
    open_: bool = False,
) -> int:
    """Judge a system by its packets: verdicts and their evidence.

    Example: ./lab conform --mode ipip,vxlan --lab same-subnet
    """
    from tunlab.command import conform as command

    return command.judge(
        system=system,
        modes=mode,
        labs=lab,
        level=level,
        box=box,
        expression=k,
        keep=keep,
        timeout_s=timeout or None,
        out=out,
        parts=with_,
        baseline=baseline,
        shard=shard,
        bundle=bundle,
        opens=open_,
    )


@task(positional=["archive"])
def replay(c: Context, archive: str, box: str = "", out: str = "") -> int:
    """Judge again what failed in another run, from its bundle.tar.

    Example: ./lab replay captures/latest/bundle.tar
    """
    from tunlab.command import replay as command

    return command.replay(archive, box, out)


@task(positional=["results"])
def report(c: Context, results: str = "") -> None:
    """Make a run's report.html anew from what its folder holds.

    Example: ./lab report captures/latest
    """
    from tunlab.command import pages

    pages.report(results)


@task(name="open", positional=["results"])
def open_(c: Context, results: str = "", port: int = 0) -> None:
    """Serve a run's report to the browsers of this machine.

    Example: ./lab open
    """
    from tunlab.command import pages

    pages.open_report(results, port)


@task()
def requirements(c: Context, level: str = "extended", k: str = "", json: bool = False) -> None:
    """List what a system must do, and which faults prove each point.

    Example: ./lab requirements --level core -k VXLAN
    """
    from tunlab.command import requirements as command

    command.listing(level, k, as_json=json)


@task(positional=[], iterable=["mode", "only"])
def mutants(
    c: Context,
    mode: list[str],
    only: list[str],
    from_: str = "",
    system: str = "refnet",
    box: str = "auto",
    out: str = "",
) -> int:
    """Plant deliberate faults: does the judge notice each one?

    Example: ./lab mutants --mode vxlan
    """
    from tunlab.command import mutants as command

    return command.run(file=from_, modes=mode, names=only, box=box, out=out, system=system)


@task(positional=[], iterable=["mode", "lab", "with_"])
def flake(
    c: Context,
    mode: list[str],
    lab: list[str],
    with_: list[str],
    system: str = "refnet",
    runs: int = 10,
    load: str = "cpu",
    k: str = "",
    level: str = "core",
    box: str = "auto",
    out: str = "",
    resume: str = "",
) -> int:
    """Judge again and again under load: is it always the same?

    Example: ./lab flake --runs 50 --load cpu --lab same-subnet
    """
    from tunlab.command import flake as command

    return command.run(
        runs=runs, pressure=load, expression=k, modes=mode, labs=lab, level=level, box=box, out=out,
        system=system, parts=with_, resume=resume,
    )  # fmt: skip


@task(positional=["name"])
def exercise(
    c: Context,
    name: str = "",
    list: bool = False,
    random: bool = False,
    seed: int = 0,
    level: int = 0,
    symptom: bool = False,
    lab: str = "",
    box: str = "auto",
    json: bool = False,
) -> None:
    """Break and fix: a lab with one planted fault, and what one sees.

    Example: ./lab exercise swallowed
    """
    from tunlab.command import exercise as command

    command.exercise(
        name=name,
        lists=list,
        draws=random,
        seed=seed,
        level=level,
        box=box,
        again=symptom,
        lab=lab,
        as_json=json,
    )


@task(positional=[])
def check(c: Context, lab: str = "", json: bool = False) -> int:
    """Judge the repair of an exercise: does it work, and all else too?

    Example: ./lab check
    """
    from tunlab.command import exercise as command

    return command.check(lab, as_json=json)


@task(positional=[])
def hint(c: Context, lab: str = "", solution: bool = False) -> None:
    """Give the next hint of the exercise that is under way.

    Example: ./lab hint
    """
    from tunlab.command import exercise as command

    command.hint(lab, solution=solution)


@task(name="class", positional=[])
def class_(
    c: Context,
    students: int = 0,
    exercise: str = "",
    level: int = 0,
    seed: int = 0,
    box: str = "auto",
    board: bool = False,
    json: bool = False,
    port: int = 0,
    down: bool = False,
) -> None:
    """A lab with an exercise for each student, and a progress board.

    Example: ./lab class --students 8 --exercise swallowed
    """
    from tunlab.command import classroom as command

    command.run(
        students=students,
        exercise=exercise,
        level=level,
        seed=seed,
        box=box,
        shows_board=board,
        as_json=json,
        port=port,
        ends=down,
    )


@task(positional=["lab"])
def down(c: Context, lab: str = "", all: bool = False) -> None:
    """Take a standing lab down; nothing of it is left.

    Example: ./lab down same-subnet
    """
    from tunlab.command import standing

    standing.down(lab, all)


@task()
def test(c: Context, k: str = "") -> int:
    """Run all checks: lint, types, tests, conformance of refnet.

    Example: ./lab test -k bootstrap
    """
    from tunlab.command import project

    return project.test(k)


@task()
def lint(c: Context) -> int:
    """Check style and types: ruff and mypy.

    Example: ./lab lint
    """
    from tunlab.command import project

    return project.lint()


@task(positional=["what"])
def completion(c: Context, what: str = "bash") -> None:
    """Print the completion script of a shell.

    Example: source <(./lab completion bash)
    """
    from tunlab.command import completion as command

    command.script(what)
