"""IPv6 in the texts that the tools get: the kernel's batches and BIRD's second half."""

from __future__ import annotations

import subprocess
from pathlib import Path

from refnet.calc.changes import Have
from refnet.render.birdconf import render_bird
from tests.refnet.calc import six
from tests.refnet.render.test_golden import commands, golden


def test_from_nothing_to_vxlan_over_ipv6_is_these_commands() -> None:
    assert commands(Have(), six.want_of(six.store(vxlanMode="Always"))) == golden("nothing-to-vxlan-ipv6.batch")


def test_bird_gets_a_half_of_its_own_for_ipv6_and_takes_it(tmp_path: Path) -> None:
    speaker = six.want_of(six.store()).speaker
    assert speaker
    text = render_bird(speaker)
    assert text == golden("dual-stack.bird.conf")
    path = tmp_path / "bird.conf"
    path.write_text(text)
    done = subprocess.run(["bird", "-p", "-c", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
