"""tunlab: a reproducible lab and conformance judge for pod networking."""
