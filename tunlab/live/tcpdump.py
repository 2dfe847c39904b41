"""tcpdump for a box that knows but one user: dumpcap captures, the real tcpdump reads and prints.

tcpdump gives up root as soon as it has opened its device, and ends where it may not. In the box of an ordinary user
without a range of ids of his own there is nobody else to become, and `-Z root` does not help: dropping the other groups
is forbidden there, too. dumpcap, which is installed with tshark, stays who it is; and as a nobody of a further user
namespace tcpdump finds no root to give up. So this stands as `tcpdump` early in PATH, in such boxes alone.
"""

from __future__ import annotations

import contextlib
import getopt
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

SHORT = "aAb:B:c:C:dDeE:fF:G:hHi:IjJ:KlLm:M:nNOpqQ:r:s:StT:uUvV:w:W:xXy:Yz:Z:#"
LONG = re.findall(r"\S+", """
    absolute-tcp-sequence-numbers buffer-size= count direction= dont-verify-checksums help immediate-mode interface=
    lengths linktype= list-data-link-types list-interfaces list-time-stamp-types micro monitor-mode nano
    no-optimize no-promiscuous-mode number packet-buffered print relinquish-privileges= snapshot-length=
    time-stamp-precision= time-stamp-type= verbose version
""")  # fmt: skip
# How the capturing options are called in dumpcap; what is not here is for the reader.
CAPTURING = {
    "-i": "-i", "--interface": "-i", "-s": "-s", "--snapshot-length": "-s", "-B": "-B", "--buffer-size": "-B",
    "-p": "-p", "--no-promiscuous-mode": "-p", "-y": "-y", "--linktype": "-y", "-I": "-I", "--monitor-mode": "-I",
}  # fmt: skip
DROPPED = {"-Z", "--relinquish-privileges", "--immediate-mode"}
NO_CAPTURE = {
    "-r", "-V", "-D", "--list-interfaces", "-L", "--list-data-link-types", "-J", "--list-time-stamp-types",
    "-h", "--help", "--version", "-d",
}  # fmt: skip
AS_NOBODY = ("unshare", "--user", "--map-user=65534", "--map-group=65534", "--")
REAL = "/usr/bin/tcpdump"


def divide(argv: list[str]) -> tuple[list[str], list[str], str] | None:
    """The words for dumpcap, those for the real tcpdump, and the device; None when nothing is to be captured.

    Raises getopt.GetoptError as the real one would complain.
    """
    options, expression = getopt.gnu_getopt(argv, SHORT, LONG)
    if any(name in NO_CAPTURE for name, _ in options):
        return None
    capture, read, device = [], [], ""
    for name, value in options:
        if name in ("-Q", "--direction"):
            raise getopt.GetoptError(f"{name} does not work in a box that knows but one user", name)
        if name in ("-i", "--interface"):
            device = value
        if name in CAPTURING:
            capture += [CAPTURING[name], value] if value else [CAPTURING[name]]
        elif name not in DROPPED:
            read += [f"{name}={value}"] if name.startswith("--") and value else [name, value] if value else [name]
    return capture, [*read, "--", *expression] if expression else read, device


def main() -> int:
    """Run both, and end both with either."""
    try:
        divided = divide(sys.argv[1:])
    except getopt.GetoptError as error:
        print(f"tcpdump: {error.msg}", file=sys.stderr)
        return 1
    if divided is None:
        os.execvp(AS_NOBODY[0], [*AS_NOBODY, REAL, *sys.argv[1:]])
    capture, read, device = divided
    if device and device != "any" and not Path("/sys/class/net", device).exists():
        print(f"tcpdump: {device}: No such device exists", file=sys.stderr)
        return 1
    words = ["dumpcap", "-q", "-P", *capture, "-w", "-"]
    source = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    reader = subprocess.Popen([*AS_NOBODY, REAL, "-r", "-", *read], stdin=source.stdout)
    assert source.stdout is not None and source.stderr is not None
    source.stdout.close()

    def pass_on(number: int, _: object) -> None:
        for process in (source, reader):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to both by itself
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, pass_on)
    code = reader.wait()
    with contextlib.suppress(ProcessLookupError):
        source.terminate()
    said = source.stderr.read().decode(errors="replace").strip()
    if source.wait() not in (0, -signal.SIGTERM, -signal.SIGPIPE) and said:
        print(f"tcpdump: {said.splitlines()[-1]}", file=sys.stderr)
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main())
