"""The lab's own BGP speakers: routers that take pod routes from every node. Part of the lab, not of a system."""

from __future__ import annotations

from tunlab.box.box import Box, CommandFailed
from tunlab.errors import WorldError
from tunlab.lab.topology import Router, Topology
from tunlab.wait import NeverHappened, eventually

_CONFIG = "/etc/bird/tunlab.conf"
_SOCKET = "/run/bird/bird.ctl"


def speaker_config(topology: Topology, router: Router) -> str:
    """BIRD's configuration of one router: it waits for the nodes, takes all they tell, tells nothing, and routes by it.

    `passive`: where a system runs no BGP (VXLAN), nobody may see a connection attempt either.
    """
    if router.bgp is None:
        return ""
    own = router.interfaces[0].address.ip
    lines = [
        f"router id {own};",
        "protocol device {}",
        "protocol direct { ipv4; }",
        "protocol kernel { scan time 10; metric 0; ipv4 { import none; export where source = RTS_BGP; }; }",
    ]
    for node in topology.nodes:
        lines += [
            f"protocol bgp node_{node.name.replace('-', '_')} {{",
            f"  local {own} as {router.bgp.as_number};",
            f"  neighbor {node.address.ip} as {router.bgp.as_number};",
            "  multihop; passive on; connect retry time 2; error wait time 1,2;",
            "  ipv4 { import all; export none; gateway recursive; };",
            "}",
        ]
    return "\n".join(lines) + "\n"


def start_speakers(box: Box, topology: Topology) -> None:
    """Start BIRD on every router that is to speak BGP, and wait until it listens. Raises WorldError."""
    for router in topology.routers:
        if router.bgp is None:
            continue
        box.put(router.name, _CONFIG, speaker_config(topology, router))
        box.run(router.name, ["mkdir", "-p", "/run/bird"])
        box.spawn(router.name, ["bird", "-f", "-c", _CONFIG, "-s", _SOCKET], log=f"logs/{router.name}-bird.log")
        _wait_for(box, router.name)


def _wait_for(box: Box, router: str) -> None:
    try:
        eventually(
            lambda: box.run(router, ["birdc", "-s", _SOCKET, "show", "status"], check=False).rc,
            lambda rc: rc == 0,
            within_s=10.0,
            what=f"{router}: BIRD answers",
            blame="lab",
        )
    except (NeverHappened, CommandFailed) as error:
        log = box.run_dir / "logs" / f"{router}-bird.log"
        raise WorldError(f"{error}: {log.read_text()[-200:] if log.exists() else 'no log'}") from error
