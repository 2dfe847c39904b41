"""A box is chosen by what this machine's kernels carry: whoever names one hears that before any lab is built."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tunlab.box.machine import Verdict
from tunlab.check import stage
from tunlab.check.stage import choose_box
from tunlab.command import mutants
from tunlab.command.mutants import choose
from tunlab.errors import WorldError
from tunlab.mutants.bite import CORPUS, load_corpus, load_proofs
from tunlab.mutants.mutant import Mutant


@dataclass(frozen=True)
class NoIpip:
    """A machine whose own kernel has no ipip."""

    def can(self, box: str, mode: str) -> Verdict:
        return Verdict(box == "uml" or not mode.startswith("ipip"), "this kernel has no ipip")

    def choose(self, mode: str) -> tuple[str, Verdict]:
        return ("namespaces" if self.can("namespaces", mode).ok else "uml"), Verdict(True, "it can")


@pytest.fixture(autouse=True)
def _no_ipip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "machine", NoIpip)
    monkeypatch.setattr(mutants, "machine", NoIpip)


@pytest.mark.parametrize("modes", [["ipip"], ["vxlan", "ipip-crosssubnet"]], ids=["alone", "visited"])
def test_a_kernel_without_a_tunnel_is_the_machines_lack_and_not_the_systems_failure(modes: list[str]) -> None:
    with pytest.raises(WorldError, match=rf"^--box namespaces: not with mode {modes[-1]}: this kernel has no ipip\b"):
        choose_box("namespaces", modes)
    assert choose_box("uml", modes) == ("uml", "as asked")
    assert choose_box("auto", modes)[0] == "uml"


def test_builds_are_left_out_where_the_box_cannot_carry_what_they_are_asked_in() -> None:
    proofs = load_proofs()
    corpus = load_corpus(proofs, sorted(Path(CORPUS).rglob("*.yaml")))
    chosen, left_out = choose(corpus, proofs, [], [], "namespaces")
    kinds = {one.name: one for one in corpus}
    assert {"pods-speak-ipip", "switch-leaves-tunl0-up", "switch-leaves-the-vxlan-device"} <= left_out.keys()
    assert all(why.startswith("ipip") and why.endswith("this kernel has no ipip") for why in left_out.values())
    assert {one.mode for name in left_out if isinstance(one := kinds[name], Mutant)} == {"ipip", "ipip-crosssubnet"}
    assert len(choose(corpus, proofs, [], [], "auto")[0]) == len(corpus) == len(chosen) + len(left_out)
