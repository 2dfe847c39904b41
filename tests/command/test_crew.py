"""Work in processes of its own: as many at a time as may be, busy ones apart."""

from __future__ import annotations

from pathlib import Path

from tunlab.command.crew import Crew, Job


def test_of_those_that_keep_a_processor_busy_only_so_many_run_beside_the_others(tmp_path: Path) -> None:
    names = {"busy-1": True, "busy-2": True, "waits-1": False, "waits-2": False}
    jobs = [
        Job("tests.command.fake_wait", (name, str(tmp_path)), tmp_path / f"{name}.log", {}, busy)
        for name, busy in names.items()
    ]
    said: list[str] = []

    def hear(job: Job, line: str) -> None:
        """The first line says that it has begun; who is told to go on ends."""
        said.append(line)
        begun = {one.partition(" ")[0] for one in said if one.endswith("begun")}
        if line.endswith("begun") and begun >= {"busy-1", "waits-1", "waits-2"}:
            for name in begun:
                (tmp_path / name).touch()

    Crew(3, busy=1).run(jobs, hear, lambda job, code: said.append(f"{job.words[0]} ended {code}"))
    first = said[: said.index(next(one for one in said if "ended" in one))]
    assert sorted(first) == ["busy-1 begun", "waits-1 begun", "waits-2 begun"]
    assert said.index("busy-1 ended 0") < said.index("busy-2 begun")
    assert sum(one.endswith("ended 0") for one in said) == 4
