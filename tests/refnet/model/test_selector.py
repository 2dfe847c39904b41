"""A selector is true of the labels Calico says it is true of, and all else is refused with its place."""

from __future__ import annotations

import pytest

from refnet.errors import InvalidResource
from refnet.model.selector import EVERYTHING, MAX_LENGTH, NAMESPACE_LABEL, Selector

WEB = {"app": "web", "tier": "front-end", "example.com/team": "blue"}

TRUE = [
    "",
    "  ",
    "all()",
    "all( )",
    "app == 'web'",
    'app == "web"',
    "app=='web'",
    "app != 'db'",
    "absent != 'web'",
    "app in {'web', 'db'}",
    "app in{'web',}",
    "app not in {'db'}",
    "app notin {'db'}",
    "app not in {}",
    "absent not in {'web'}",
    "has(app)",
    "has( example.com/team )",
    "!has(absent)",
    "! has(absent)",
    "!!has(app)",
    "! app == 'db'",
    "tier contains 'nt-e'",
    "tier contains ''",
    "tier starts with 'front'",
    "tier starts  with 'front'",
    "tier ends with '-end'",
    "app == 'db' && has(absent) || has(tier)",
    "has(tier) || app == 'db' && has(absent)",
    "(app == 'db' || has(tier)) && has(app)",
    "!(app == 'db')",
    "!(app == 'db' || has(absent)) && ((has(app)))",
    "global()",
    "index != 'x'",
    "in != 'x'",
    "all != 'x'",
]

FALSE = [
    "app == 'db'",
    "app == 'WEB'",
    "absent == 'web'",
    "absent == ''",
    "app != 'web'",
    "app in {'db'}",
    "app in {}",
    "absent in {'web'}",
    "app not in {'web'}",
    "!has(app)",
    "!all()",
    "has(absent)",
    "tier contains 'x'",
    "absent contains ''",
    "tier starts with 'end'",
    "tier ends with 'front'",
    "(has(tier) || app == 'db') && has(absent)",
    "has(app) && !(has(tier))",
]


@pytest.mark.parametrize("text", TRUE)
def test_a_true_selector_matches(text: str) -> None:
    assert Selector.parse(text).matches(WEB)


@pytest.mark.parametrize("text", FALSE)
def test_a_false_selector_does_not(text: str) -> None:
    assert not Selector.parse(text).matches(WEB)


def test_global_is_what_lies_in_no_namespace() -> None:
    assert not Selector.parse("global()").matches({NAMESPACE_LABEL: "default"})


@pytest.mark.parametrize("text", [*TRUE, *FALSE])
def test_the_canonical_spelling_means_the_same(text: str) -> None:
    once = Selector.parse(text)
    again = Selector.parse(once.text)
    assert again == once
    assert again.text == once.text
    assert again.matches(WEB) == once.matches(WEB)


def test_equal_selectors_are_one_in_a_set() -> None:
    assert {Selector.parse("a in {'y',\"x\"}"), Selector.parse("a  in { 'x' , 'y' }")} == {
        Selector.parse("a in {'x','y'}")
    }
    assert Selector.parse("") == EVERYTHING
    assert Selector.parse("has(a)") != Selector.parse("has(b)")


WRONG = {
    "app": ("character 4", "the end", "== != in, not in, contains, starts with, ends with"),
    "app = 'web'": ("character 5", "\"= 'web'\"", "== != in, not in, contains, starts with, ends with"),
    "app == web": ("character 8", "'web'", "a text in quotes"),
    "app == 'web": ("character 8", '"\'web"', "a text in quotes"),
    "app == 'web' &&": ("character 16", "the end", "a label's name, has(LABEL), all(), global(), ! or ("),
    "app == 'web' & has(b)": ("character 14", "'& has(b)'", "&&, || or the end"),
    "app == 'web')": ("character 13", "')'", "&&, || or the end"),
    "(app == 'web'": ("character 14", "the end", "&&, || or )"),
    "()": ("character 2", "')'", "a label's name, has(LABEL), all(), global(), ! or ("),
    "app in 'web'": ("character 8", "\"'web'\"", 'a set, {"a", "b"}'),
    "app in {'web' 'db'}": ("character 15", "\"'db'}\"", ", or }"),
    "app in {web}": ("character 9", "'web}'", "a text in quotes"),
    "has(a b)": ("character 4", "'(a b)'", "== != in, not in, contains, starts with, ends with"),
    "all() all()": ("character 7", "'all()'", "&&, || or the end"),
    "a == 'b'; reboot": ("character 9", "'; reboot'", "&&, || or the end"),
    "a\x00 == 'b'": ("character 2", "\"\\x00 == 'b'\"", "== != in, not in, contains, starts with, ends with"),
    "ä == 'b'": ("character 1", "\"ä == 'b'\"", "a label's name, has(LABEL), all(), global(), ! or ("),
}


@pytest.mark.parametrize(("text", "expected"), WRONG.items())
def test_a_wrong_selector_is_refused_with_the_place(text: str, expected: tuple[str, str, str]) -> None:
    with pytest.raises(InvalidResource) as refused:
        Selector.parse(text)
    (mistake,) = refused.value.mistakes
    assert (mistake.path, mistake.given, mistake.legal) == expected


HOSTILE = {
    "one megabyte": "a" * 1_000_000,
    "a long list": "a in {" + "'x'," * 300_000 + "}",
    "parentheses": "(" * (MAX_LENGTH // 2) + "has(a)" + ")" * (MAX_LENGTH // 2 - 6),
    "negated parentheses": "!(" * 500 + "all()" + ")" * 500,
    "a label without an end": "a" * 600 + " == 'b'",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_selector_is_refused_too(text: str) -> None:
    with pytest.raises(InvalidResource):
        Selector.parse(text)


def test_a_long_selector_that_is_right_is_read() -> None:
    assert Selector.parse(" && ".join(["has(app)"] * 300)).matches(WEB)
    assert Selector.parse("!" * 4000 + "has(app)").matches(WEB)
