"""The sandbox keeps what runs in it away from the machine, or does not come up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.refnet.apply import sandbox
from tests.refnet.apply.sandbox import Place, World


def test_what_a_node_writes_into_etc_and_var_lib_stays_in_the_node() -> None:
    world = World()
    try:
        node = world.node(1)
        node.must("mkdir /etc/sandboxed /var/lib/sandboxed", "test -d /etc/sandboxed")
    finally:
        world.close()
    assert not Path("/etc/sandboxed").exists()
    assert not Path("/var/lib/sandboxed").exists()


def test_a_place_whose_mount_fails_does_not_come_up() -> None:
    script = sandbox._NODE.replace("mount -t overlay", "false; mount -t overlay")
    argv = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child")
    with pytest.raises(AssertionError, match="a mount or a link was refused; nothing may run here"):
        Place(argv, script)
