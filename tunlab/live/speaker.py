"""The lab's own BGP speakers: routers that take pod routes from every node. Part of the lab, not of a system."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tunlab.box.box import Box, CommandFailed
from tunlab.errors import WorldError
from tunlab.lab.topology import NODE_AS, Router, Topology
from tunlab.wait import NeverHappened, eventually

_BIRD_CONFIG, _BIRD_SOCKET = "/etc/bird/tunlab.conf", "/run/bird/bird.ctl"
_FRR_CONFIG, _FRR, _FRR_HOME = "/run/frr/tunlab.conf", "/run/frr", "/usr/lib/frr"


def speaker_config(topology: Topology, router: Router) -> str:
    """The configuration of one router: it waits for the nodes, takes all they tell, and routes by it.

    Over iBGP it tells nothing; over eBGP it passes on what one node told to the others, as a top-of-rack router does.
    It never calls: where a system runs no BGP (VXLAN), nobody may see a connection attempt either.
    """
    if router.bgp is None:
        return ""
    lines = _frr(topology, router) if router.bgp.program == "frr" else _bird(topology, router)
    return "\n".join(lines) + "\n"


def _bird(topology: Topology, router: Router) -> Iterator[str]:
    assert router.bgp
    own, is_external = router.interfaces[0].address.ip, router.bgp.as_number != NODE_AS
    yield f"router id {own};"
    yield "protocol device {}"
    yield "protocol direct { ipv4; }"
    yield "protocol kernel { scan time 10; metric 0; ipv4 { import none; export where source = RTS_BGP; }; }"
    told = "where source = RTS_BGP" if is_external else "none"
    for node in topology.nodes:
        yield f"protocol bgp node_{node.name.replace('-', '_')} {{"
        yield f"  local {own} as {router.bgp.as_number};"
        yield f"  neighbor {node.address.ip} {'external' if is_external else f'as {router.bgp.as_number}'};"
        yield "  multihop; passive on; connect retry time 2; error wait time 1,2;"
        yield f"  ipv4 {{ import all; export {told}; gateway recursive; }};"
        yield "}"


def _frr(topology: Topology, router: Router) -> Iterator[str]:
    assert router.bgp
    yield f"hostname {router.name}"
    yield f"router bgp {router.bgp.as_number}"
    yield f" bgp router-id {router.interfaces[0].address.ip}"
    yield " no bgp ebgp-requires-policy"
    yield " neighbor nodes peer-group"
    yield f" neighbor nodes remote-as {'internal' if router.bgp.as_number == NODE_AS else 'external'}"
    yield " neighbor nodes passive"
    if router.bgp.as_number != NODE_AS:
        yield " neighbor nodes ebgp-multihop 255"
    yield " neighbor nodes advertisement-interval 0"
    yield from (f" neighbor {node.address.ip} peer-group nodes" for node in topology.nodes)
    yield " address-family ipv4 unicast"
    yield "  neighbor nodes activate"
    yield " exit-address-family"
    yield "exit"


def start_speakers(box: Box, topology: Topology) -> None:
    """Start a speaker on every router that is to speak BGP, and wait until it listens. Raises WorldError."""
    for router in topology.routers:
        if router.bgp is None:
            continue
        config = speaker_config(topology, router)
        if router.bgp.program == "frr":
            _start_frr(box, router.name, config)
        else:
            _start_bird(box, router.name, config)


def _start_bird(box: Box, router: str, config: str) -> None:
    box.put(router, _BIRD_CONFIG, config)
    box.run(router, ["mkdir", "-p", "/run/bird"])
    log = f"logs/{router}-bird.log"
    box.spawn(router, ["bird", "-f", "-c", _BIRD_CONFIG, "-s", _BIRD_SOCKET], log=log)
    _wait_for(box, router, "BIRD", ["birdc", "-s", _BIRD_SOCKET, "show", "status"], log)


def _start_frr(box: Box, router: str, config: str) -> None:
    """zebra writes the routes that bgpd learns. Both give up root for a user of their own, so the box must know it."""
    box.put(router, _FRR_CONFIG, config)
    box.run(router, ["chown", "frr:frr", _FRR])
    common = ("-z", f"{_FRR}/zserv.api", "--vty_socket", _FRR)
    for program, file in (("zebra", "/dev/null"), ("bgpd", _FRR_CONFIG)):
        log = f"logs/{router}-{program}.log"
        argv = [f"{_FRR_HOME}/{program}", "--log", "stdout", "-f", file, "-i", f"{_FRR}/{program}.pid", *common]
        box.spawn(router, argv, log=log)
        ask = ["vtysh", "--vty_socket", _FRR, "-d", program, "-c", "show version"]
        _wait_for(box, router, program, ask, log)


def _wait_for(box: Box, router: str, what: str, ask: Sequence[str], log: str) -> None:
    try:
        eventually(
            lambda: box.run(router, ask, check=False).rc,
            lambda rc: rc == 0,
            within_s=10.0,
            what=f"{router}: {what} answers",
            blame="lab",
            slowness=box.slowness,
        )
    except (NeverHappened, CommandFailed) as error:
        path = box.run_dir / log
        raise WorldError(f"{error}: {path.read_text()[-200:] if path.exists() else 'no log'}") from error
