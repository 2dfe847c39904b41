"""The judge's own reading of selectors: every operator, with a label that fits, one that does not, and none."""

from __future__ import annotations

import pytest

from tunlab.errors import LabError
from tunlab.oracle.selector import read_selector

WEB = {"app": "web-shop", "env": "prod"}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("", True),
        ("all()", True),
        ("all( )", True),
        ("global()", True),
        ("!all()", False),
        ('app == "web-shop"', True),
        ("app == 'web-shop'", True),
        ("app == 'web'", False),
        ("tier == ''", False),
        ("app != 'web-shop'", False),
        ("app != 'web'", True),
        ("tier != 'web'", True),
        ("app in {'web', 'web-shop'}", True),
        ("app in {'web'}", False),
        ("tier in {'web'}", False),
        ("app not in {'web'}", True),
        ("app not in { 'web-shop' , 'web' }", False),
        ("tier not in {'web'}", True),
        ("has(app)", True),
        ("has(tier)", False),
        ("!has(tier)", True),
        ("! has( app )", False),
        ("app contains 'b-s'", True),
        ("app contains 'x'", False),
        ("tier contains ''", False),
        ("app starts with 'web'", True),
        ("app starts with 'shop'", False),
        ("app ends with 'shop'", True),
        ("app ends with 'web'", False),
        # && before ||
        ("has(app) || has(x) && has(y)", True),
        ("(has(app) || has(x)) && has(y)", False),
        ("has(y) && has(x) || has(app)", True),
        ("!(app == 'a' || env == 'prod')", False),
        ("!has(x) && !has(y)", True),
        ("!!has(app)", True),
        # Words of the grammar are good labels too.
        ("in in {'x'}", False),
        ("!has(has)", True),
        ("all != 'x'", True),
    ],
)
def test_a_selector_holds_of_labels_as_calico_says(text: str, holds: bool) -> None:
    assert read_selector(text)(WEB) is holds


def test_global_means_what_has_no_namespace() -> None:
    assert not read_selector("global()")({"projectcalico.org/namespace": "default"})


@pytest.mark.parametrize(
    "text",
    [
        "app",
        "app ==",
        "app = 'x'",
        "app == x",
        "has(app",
        "(all()",
        "all() all()",
        "app in {'x'",
        "&& all()",
        "app in 'x'",
        "'x' == 'x'",
    ],
)
def test_what_is_no_selector_is_refused(text: str) -> None:
    with pytest.raises(LabError, match=r"^selector .*: (makes no sense at|.* no part of a selector)"):
        read_selector(text)
