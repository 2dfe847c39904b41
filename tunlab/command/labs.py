"""`./lab labs` and `./lab plan`: the labs as a table, and one of them as a script that needs no tunlab."""

from __future__ import annotations

import dataclasses
import json
import textwrap

from tunlab.lab.load import LabRow, describe_labs, load_lab
from tunlab.lab.script import write_script


def table(*, as_json: bool = False) -> None:
    """Print the labs in labs/; raises LabError where one of the files is wrong."""
    rows = describe_labs()
    if as_json:
        print(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return
    width = max((len(row.name) for row in rows), default=3)
    print(f"{'lab':<{width}}  nodes  routers  pods  modes")
    for row in rows:
        print(_line(row, width))


def plan(name: str) -> None:
    """Print the exact commands of one lab as a shell script for root; raises LabError for a lab that is not one."""
    print(write_script(load_lab(name)), end="")


def _line(row: LabRow, width: int) -> str:
    first = f"{row.name:<{width}}  {row.nodes:>5}  {row.routers:>7}  {row.pods:>4}  {', '.join(row.modes)}"
    return f"{first}\n{textwrap.fill(row.summary, 80, initial_indent='  ', subsequent_indent='  ')}"
