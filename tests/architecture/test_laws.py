"""The house keeps its laws, and each law finds an offender that is planted for it."""
# ruff: noqa: E501 -- a table reads best with a row on a line

from __future__ import annotations

import pytest

from tests.architecture import laws
from tests.architecture.tree import ROOT, Source, project

LONG_FUNCTION = "def f() -> None:\n" + "    print()\n" * 60
LONG_FILE = "x = 1\n" * 501

PLANTED = [
    (laws.halves_never_meet, "tunlab/check/a.py", "import refnet.calc", "tunlab imports refnet.calc"),
    (laws.halves_never_meet, "tunlab/check/a.py", "from refnet import ipam", "tunlab imports refnet.ipam"),
    (laws.halves_never_meet, "refnet/calc/a.py", "def f():\n    import tunlab.lab", "refnet imports tunlab.lab"),
    (laws.halves_never_meet, "tunlab/check/a.py", "p = ROOT / 'refnet/bin'", "tunlab names 'refnet/bin'"),
    (laws.halves_never_meet, "tunlab/check/a.py", "r('python -m refnet.agent')", "tunlab names 'python -m refnet.agent'"),
    (laws.halves_never_meet, "tunlab/a.py", "import_module('refnet')", "tunlab imports refnet"),
    (laws.imports_go_downwards, "tunlab/lab/a.py", "from tunlab.box import line", "tunlab.lab imports tunlab.box.line, which is above it"),
    (laws.imports_go_downwards, "tunlab/lab/a.py", "from ..check import matrix", "tunlab.lab imports tunlab.check.matrix, which is above it"),
    (laws.imports_go_downwards, "refnet/model/a.py", "import refnet.store.etcd", "refnet.model imports refnet.store.etcd, which is above it"),
    (laws.imports_go_downwards, "tunlab/wait.py", "import tunlab.check.matrix", "tunlab.wait imports tunlab.check.matrix, which is above it"),
    (laws.imports_go_downwards, "tunlab/extra/a.py", "", "tunlab.extra has no floor in tests/architecture/laws.py"),
    (laws.nodes_have_the_standard_library_alone, "tunlab/box/inside/a.py", "import scapy.all", "imports scapy.all, which is not there where this runs"),
    (laws.nodes_have_the_standard_library_alone, "tunlab/box/inside/a.py", "import tunlab.errors", "imports tunlab.errors, which is not there where this runs"),
    (laws.nodes_have_the_standard_library_alone, "refnet/agent/a.py", "import yaml", "imports yaml, which is not there where this runs"),
    (laws.models_read_no_zones, "refnet/model/a.py", "import ipaddress\nipaddress.ip_network('::1')", "ipaddress.ip_network outside refnet/model/address.py"),
    (laws.nobody_sleeps, "tests/a.py", "import time\ntime.sleep(1)", "time.sleep outside tunlab/wait.py"),
    (laws.nobody_sleeps, "tests/a.py", "from time import sleep as nap\nnap(1)", "nap outside tunlab/wait.py"),
    (laws.nobody_sleeps, "tests/a.py", "import time as t\nt.sleep(1)", "t.sleep outside tunlab/wait.py"),
    (laws.nothing_is_skipped, "tests/a.py", "import pytest\npytest.skip('no')", "pytest.skip outside tunlab/plugin.py"),
    (laws.nothing_is_skipped, "tests/a.py", "@pytest.mark.skipif(True)\ndef f(): ...", "pytest.mark.skipif outside tunlab/plugin.py"),
    (laws.nothing_is_skipped, "tests/a.py", "from pytest import importorskip", "importorskip outside tunlab/plugin.py"),
    (laws.nothing_is_skipped, "tests/a.py", "import pytest as pt\npt.skip('no')", "pt.skip outside tunlab/plugin.py"),
    (laws.nothing_is_skipped, "tests/a.py", "from _pytest.outcomes import skip", "skip outside tunlab/plugin.py"),
    (laws.nothing_is_skipped, "tests/a.py", "self.skipTest('no')", "self.skipTest outside tunlab/plugin.py"),
    (laws.what_is_chosen_is_demanded, "suites/a.py", "seen.frames.on('a/b').with_stack('eth')", "with_stack(…) stands alone: demand something of it"),
    (laws.what_is_chosen_is_demanded, "suites/a.py", "scene.ask([q])", "ask(…) stands alone: demand something of it"),
    (laws.suites_know_no_checkout, "suites/a.py", "from tunlab.paths import ROOT", "a suite imports tunlab.paths.ROOT"),
    (laws.functions_are_short, "refnet/a.py", LONG_FUNCTION, "f has 61 lines, 60 are allowed"),
    (laws.files_are_short, "refnet/a.py", LONG_FILE, "501 lines, 500 are allowed"),
]  # fmt: skip
INNOCENT = [
    Source("tunlab/systems/a.py", "AGENT = 'refnet/bin/refnet-agent'"),
    Source("tunlab/check/a.py", "'''As refnet/calc does.'''\nDEFAULT = 'refnet'\nfrom tunlab.wire import tap"),
    Source("tunlab/box/inside/a.py", "import os\nfrom tunlab.box import line\nfrom tunlab.box.inside import kernel"),
    Source("tunlab/systems/b.py", "from tunlab.wait import eventually"),
    Source("tunlab/wait.py", "import time\ntime.sleep(0.1)"),
    Source("tunlab/plugin.py", "import pytest\npytest.skip('not offered')"),
    Source("suites/a.py", "seen.on('a/b').some()\nscene.ask([q]).check()\nscene.live.box.ask('probes', 'craft')"),
    Source("refnet/ctl/a.py", "import yaml"),
    Source("refnet/model/address.py", "import ipaddress\nipaddress.ip_network('::1')"),
    Source("refnet/a.py", "sleep = 1\nskip(3)"),
]


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__.replace("_", " "))
def test_the_house_keeps_the_law(law: object) -> None:
    assert laws.offences(law, project()) == []


@pytest.mark.parametrize(
    ("law", "path", "text", "words"),
    PLANTED,
    ids=[f"{law.__name__}-{number}" for number, (law, *_) in enumerate(PLANTED)],
)
def test_a_planted_offender_is_found(law: object, path: str, text: str, words: str) -> None:
    found = laws.offences(law, [Source(path, text)])
    assert [offence.split(": ", 1)[1] for offence in found] == [words]


def test_a_circle_between_packages_of_one_floor_is_found() -> None:
    files = [
        Source("tunlab/wire/a.py", "import tunlab.systems.b"),
        Source("tunlab/systems/b.py", "import tunlab.runtime.c"),
        Source("tunlab/runtime/c.py", "import tunlab.wire.a"),
    ]
    found = laws.offences(laws.imports_go_downwards, files)
    assert len(found) == 3
    assert laws.offences(laws.imports_go_downwards, files[:2]) == []


@pytest.mark.parametrize("law", laws.LAWS, ids=lambda law: law.__name__.replace("_", " "))
def test_the_law_leaves_the_innocent_alone(law: object) -> None:
    assert [each for each in laws.offences(law, INNOCENT) if "no floor" not in each] == []


def test_the_whole_tree_is_read() -> None:
    paths = {source.path for source in project()}
    assert {"tasks.py", "tunlab/command/__main__.py", "tests/architecture/test_laws.py"} <= paths


def test_the_readme_is_short() -> None:
    readme = ROOT / "README.md"
    assert not readme.exists() or len(readme.read_text().splitlines()) <= 150


def test_every_test_file_is_one_that_pytest_finds() -> None:
    strays = [
        source.path
        for source in project()
        if source.path.startswith(("tests/", "suites/"))
        and "\ndef test_" in source.text
        and not source.path.rpartition("/")[2].startswith("test_")
    ]
    assert strays == []
