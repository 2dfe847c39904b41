"""Addresses for pods and tunnels: blocks claimed by nodes, allocated by compare-and-swap in the store."""

from refnet.ipam.allocator import Ipam

__all__ = ["Ipam"]
