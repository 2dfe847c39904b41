"""What a unit of mutants comes to where no lab is opened: a mutant's own name says its fate."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from tunlab.mutants.trial import FATES, KILLED, Outcome, Unit

unit = Unit(**json.loads(Path(sys.argv[1]).read_text()))
for name in unit.names:
    if name.startswith("dies"):
        print("out of luck", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    fate = next(fate for fate in FATES if name.startswith(fate))
    red = {"VXLAN-06": "seen <one>, wanted two"} if fate == KILLED else {}
    missed = () if red else ("VXLAN-06",)
    complaints = () if red else (f"{name}: so it was",)
    one = Outcome(name, "fault", unit.lab, unit.modes[0], fate, red, missed, {}, ("VXLAN-06",), False, complaints, 1.0)
    print(json.dumps(one.to_json()), flush=True)
