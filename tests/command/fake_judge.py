"""A `conform` whose verdicts depend on which repetition it is: the second fails, the third leaves no results."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tunlab.check.verdict import Row, Verdict
from tunlab.report.results import Results, exit_code
from tunlab.wait import WAITS_VARIABLE

words = sys.argv[1:]
out = Path(words[words.index("--out") + 1])
number = int(out.name.rpartition("-")[2])
plan = words[words.index("-k") + 1] if "-k" in words else ""
if number == 3 and plan == "dies":
    print("a bad day", file=sys.stderr)
    sys.exit(2)
verdict = Verdict.FAILED if number == 2 and plan else Verdict.PASSED
rows = [
    Row("GOOD-01", "Good", "core", "mixed", "vxlan", Verdict.PASSED, 0.1),
    Row("FLAK-01", "Flaky", "core", "mixed", "vxlan", verdict, 0.1, (), "seen two" if verdict != "passed" else ""),
]
out.mkdir()
(out / "captures").mkdir()
results = Results(out.name, "2026-11-21T00:00:00+00:00", "refnet", {}, rows=rows, exit=exit_code(rows))
results.write(out)
with Path(os.environ[WAITS_VARIABLE]).open("a") as file:
    for what, seconds, within_s in (("it is ready", 1.0 * number, 10.0), ("a route is back", 0.1, 15.0)):
        file.write(json.dumps({"what": what, "seconds": seconds, "within_s": within_s}) + "\n")
for position, row in enumerate(rows, 1):
    print(f"[{position}/2] {'FAILED' if row.reason else 'passed'} {row.id} mixed vxlan: {row.reason}", flush=True)
sys.exit(results.exit)
