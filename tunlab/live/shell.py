"""A shell in a place of a standing lab: what is started, and what it finds in its environment."""

from __future__ import annotations

from tunlab.box.box import Stream
from tunlab.live.standing import StandingLab

SHELL = ("bash", "--noprofile", "--norc")


def shell_environment(stands: StandingLab, place: str) -> dict[str, str]:
    """What a shell at a terminal is given: a prompt that says where one is, and a history of the place's own."""
    own = {"PS1": f"{stands.name}/{place}# ", "HISTFILE": f"/run/history-{place}"}
    return {**stands.environment(place), **own}


def open_shell(stands: StandingLab, place: str, rows: int, columns: int, term: str) -> Stream:
    """A shell that believes to be at a terminal of that size. Raises WorldError."""
    env = shell_environment(stands, place)
    return stands.box().stream(place, [*SHELL, "-i"], tty=True, env=env, cwd="/", rows=rows, columns=columns, term=term)
