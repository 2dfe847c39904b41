"""Sets as text for `ipset restore`. Pure: golden files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from refnet.calc.policy.filtering import AddressSet

SCRATCH = "cali4t0"
OURS = ("cali40", "cali60", SCRATCH)
_MOST_MEMBERS = 1 << 20
_FAMILY = {"4": "inet", "6": "inet6"}


def set_lines(want: Mapping[str, AddressSet], have: Mapping[str, AddressSet]) -> Iterator[str]:
    """What makes every wanted set right; nothing for those that are.

    Members come before others go: who is in both the old and the new set is never out. A set of another kind is made
    anew beside the old one, and they are swapped.
    """
    if SCRATCH in have:
        yield f"destroy {SCRATCH}"  # left by somebody who was interrupted
    for name, wanted in sorted(want.items()):
        present = have.get(name)
        if present is None:
            yield _create(name, name, wanted)
            yield from (f"add {name} {member}" for member in sorted(wanted.members))
        elif present.kind != wanted.kind:
            yield _create(SCRATCH, name, wanted)
            yield from (f"add {SCRATCH} {member}" for member in sorted(wanted.members))
            yield f"swap {SCRATCH} {name}"
            yield f"destroy {SCRATCH}"
        else:
            yield from (f"add {name} {member}" for member in sorted(wanted.members - present.members))
            yield from (f"del {name} {member}" for member in sorted(present.members - wanted.members))


def leftover_lines(want: Mapping[str, AddressSet], have: Mapping[str, AddressSet], version: int) -> Iterator[str]:
    """What destroys our sets that nobody wants any more, once no rule refers to them."""
    prefix = f"cali{version}0"
    yield from (f"destroy {name}" for name in sorted(have) if name.startswith(prefix) and name not in want)


def _create(name: str, target: str, wanted: AddressSet) -> str:
    return f"create {name} {wanted.kind} family {_FAMILY[target[4]]} maxelem {_MOST_MEMBERS}"
