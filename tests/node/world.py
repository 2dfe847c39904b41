"""What the recorded tables were recorded from: one network with every kind of entry that verdicts look at.

`python -m tests.node.world KIND` (namespaces or uml) records tests/golden/tables/KIND.json anew.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tunlab.box.box import Box
from tunlab.box.start import fresh_run_dir, start_box
from tunlab.node.backend import host_in
from tunlab.node.tables import read_tables

GOLDEN = Path(__file__).parents[1] / "golden" / "tables"
PLACE = "recorded"
COMMON = """
link add eth0 address 02:00:00:00:00:01 mtu 1500 type veth peer name far address 02:00:00:00:00:02
link add br0 address 02:00:00:00:00:03 type bridge
link set far master br0
link add vxlan.calico address 66:00:00:00:00:01 type vxlan id 4096 dstport 4789 local 192.0.2.1 dev eth0 nolearning
link set vxlan.calico mtu 1450
link set eth0 up
link set far up
link set br0 up
link set vxlan.calico up
addr add 192.0.2.1/24 dev eth0
addr add 10.65.0.0/32 dev vxlan.calico
route add default via 192.0.2.254 dev eth0
route add 10.65.1.0/26 via 10.65.1.0 dev vxlan.calico proto 80 onlink
route add blackhole 10.65.0.0/26 proto 80
route add 10.65.2.0/26 via 192.0.2.2 dev eth0 proto bird metric 32
route add 10.65.0.7 dev eth0 scope link
route add unreachable 10.99.0.0/16 metric 7
neigh add 10.65.1.0 lladdr 66:00:00:00:00:02 dev vxlan.calico nud permanent
neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0 nud stale
"""
IPIP = """
link set tunl0 up mtu 1480
addr add 10.65.0.1/32 dev tunl0
route add 10.65.3.0/26 via 192.0.2.3 dev tunl0 proto 80 onlink
"""
FDB = "fdb add 66:00:00:00:00:02 dev vxlan.calico dst 192.0.2.2 self permanent\n"


def make(box: Box) -> None:
    """Make it in a box; IPIP only where the kernel has it."""
    box.add_network(PLACE, {f"net.ipv6.conf.{which}.disable_ipv6": "1" for which in ("all", "default")})
    box.run(PLACE, ["ip", "-batch", "-"], stdin=COMMON + (IPIP if box.kind == "uml" else ""))
    box.run(PLACE, ["bridge", "-batch", "-"], stdin=FDB)


def main() -> None:
    """Record one kind."""
    box = start_box(sys.argv[1], fresh_run_dir("record"))
    try:
        make(box)
        (GOLDEN / f"{box.kind}.json").write_text(read_tables(host_in(box, PLACE), PLACE).raw)
    finally:
        box.close()


if __name__ == "__main__":
    main()
