"""What all tests share: signals mean something, also where nohup or a shell's `&` had them ignored for all below."""

from __future__ import annotations

import signal

for _number, _handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, _handler)
