"""What must still hold when everything else has been asked; its name makes it the last file that pytest comes to."""

from tunlab.check.cell import LabCell
from tunlab.check.requirement import requirement
from tunlab.errors import WorldError
from tunlab.node.tables import Route, read_tables
from tunlab.oracle.where import has_two_nodes
from tunlab.wait import eventually

REPAIR_WITHIN_S = 15.0


@requirement(
    "LIFE-01", needs=("repairs-on-event",), where=has_two_nodes, source="design: routes are watched, not polled"
)
def test_a_block_route_that_somebody_deletes_comes_back(cell: LabCell) -> None:
    """A route to another node's block that is deleted behind the system's back is there again within 15 seconds."""
    for node in cell.live.node_names():
        wanted = sorted(cell.seen.oracle.block_routes(node), key=str)
        if not wanted:
            raise WorldError(f"{node}: the lab implies no route to another node's block")
        route = wanted[0]
        done = cell.live.box.run(node, ["ip", "route", "del", route.destination], check=False)
        if done.rc != 0:
            raise WorldError(f"{node}: ip route del {route.destination}: {done.err.strip()}")
        _wait_until_back(cell, node, route)


def _wait_until_back(cell: LabCell, node: str, route: Route) -> None:
    eventually(
        lambda: sorted(str(one) for one in read_tables(cell.host(node), node).routes),
        lambda routes: str(route) in routes,
        within_s=REPAIR_WITHIN_S,
        every_s=0.2,
        what=f"{node}: {route} is back",
        slowness=cell.live.box.slowness,
    )


@requirement("LIFE-02", needs=("agent",), source="a system that dies is no system")
def test_every_program_of_the_system_still_runs(cell: LabCell) -> None:
    """Every program that was started for the system still runs, as the process that it was at its start."""
    dead = cell.live.installation.dead()
    assert not dead, "; ".join(dead)
