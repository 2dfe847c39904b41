"""flannel's oldest way, in short: packets out of a TUN device, in UDP to the host that has the destination's subnet.

udp-tunnel.py DEVICE OWN_ADDRESS SUBNET=HOST ...   (flanneld has the subnets from etcd, here they are arguments)
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys
from ipaddress import IPv4Address, IPv4Network

PORT = 8285
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
LONGEST = 65535


def main(device: str, own: str, *routes: str) -> None:
    hosts = {IPv4Network(subnet): host for subnet, host in (route.split("=") for route in routes)}
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH", device.encode(), IFF_TUN | IFF_NO_PI))
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.bind((own, PORT))
    while True:
        ready, _, _ = select.select([tun, wire], [], [])
        if tun in ready:
            packet = os.read(tun, LONGEST)  # first copy: out of the kernel
            if packet[0] >> 4 == 4:
                destination = IPv4Address(packet[16:20])
                for subnet, host in hosts.items():
                    if destination in subnet:
                        wire.sendto(packet, (host, PORT))  # second copy: into the kernel, as UDP
        if wire in ready:
            packet, (sender, _) = wire.recvfrom(LONGEST)
            if sender in hosts.values():
                os.write(tun, packet)


if __name__ == "__main__":
    main(*sys.argv[1:])
