"""How suites judge frames: narrow a selection down, then demand something of it. What fails says so in one line.

capture.window("pairs").on("node1/eth0").going("out").from_to(POD1, POD2).some("requests").each(outer__ttl=64)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tunlab.errors import Bug, WorldError
from tunlab.wire.frames import Arp, Frame, Icmp, Icmpv6, Ipv4, Ipv6, Mismatch, Tcp, Udp, Vxlan

if TYPE_CHECKING:
    from tunlab.wire.decode import Capture

__all__ = ["Mismatch", "Seen", "field_of"]

_NEAREST = 4
_MOST_NOTES = 3


@dataclass(frozen=True)
class Note:
    """A frame of a capture whose fields were found as wanted: (field, seen, wanted), named as in messages."""

    file: str
    number: int
    fields: tuple[tuple[str, str, str], ...]


_notes: list[Note] | None = None


@contextmanager
def noting() -> Iterator[list[Note]]:
    """Meanwhile note which frames `each` compares, and in which fields: of each set of fields the first."""
    global _notes
    before, _notes = _notes, []
    try:
        yield _notes
    finally:
        _notes = before


@dataclass(frozen=True)
class Seen:
    """A selection of a capture's frames. `words` are the filters so far; `instead` what the emptying filter refused."""

    capture: Capture
    frames: tuple[Frame, ...]
    words: tuple[str, ...] = ()
    taps: tuple[str, ...] = ()
    windows: tuple[str, ...] = ()
    instead: tuple[Frame, ...] = ()

    def __iter__(self) -> Iterator[Frame]:
        return iter(self.frames)

    def __len__(self) -> int:
        return len(self.frames)

    def __str__(self) -> str:
        return ", ".join(self.words) or "any frame"

    # ------------------------------------------------------------------ narrowing
    def where(self, words: str, holds: Callable[[Frame], bool]) -> Seen:
        """Keep the frames for which it holds; `words` say so in messages."""
        kept = tuple(frame for frame in self.frames if holds(frame))
        instead = self.instead if kept or not self.frames else self.frames
        return replace(self, frames=kept, words=(*self.words, words), instead=instead)

    def window(self, name: str) -> Seen:
        """Within one window. Raises WorldError where the capture has none of that name."""
        if name not in self.capture.windows:
            raise WorldError(
                f"{self.capture.name}: window {name} is not in it",
                hint=f"it has: {', '.join(self.capture.windows) or 'none'}",
            )
        seen = self.where(f"window {name}", lambda frame: frame.window == name)
        return replace(seen, windows=(name,))

    def on(self, *taps: str) -> Seen:
        """At these taps. Raises WorldError for a tap that the capture does not have: it could never show anything."""
        for tap in taps:
            if tap not in self.capture.taps:
                raise WorldError(
                    f"{self.capture.name}: tap {tap} is not in it", hint=f"it has: {', '.join(self.capture.taps)}"
                )
        return replace(self.where(f"on {' or '.join(taps)}", lambda frame: frame.tap in taps), taps=taps)

    def going(self, direction: str) -> Seen:
        """ "in" or "out", as the tap's own device sees it."""
        if direction not in ("in", "out"):
            raise Bug(f"direction {direction!r}: wanted in or out")
        return self.where(f"going {direction}", lambda frame: frame.direction == direction)

    def with_stack(self, *stacks: str) -> Seen:
        """With one of these stacks, all of it."""
        return self.where(f"stack {' or '.join(stacks)}", lambda frame: frame.stack in stacks)

    def between(self, one: str, other: str) -> Seen:
        """Of the two that talk (innermost addresses), whichever way."""
        pairs = ((one, other), (other, one))
        return self.where(f"between {one} and {other}", lambda frame: _ends(frame) in pairs)

    def from_to(self, source: str, destination: str) -> Seen:
        """From one to the other (innermost addresses)."""
        return self.where(f"from {source} to {destination}", lambda frame: _ends(frame) == (source, destination))

    def echo(self, identifier: int, sequence: int | None = None) -> Seen:
        """Echo requests and replies of one probe, tunnelled or not."""
        words = f"echo {identifier}" + (f"/{sequence}" if sequence is not None else "")
        return self.where(words, lambda frame: _is_echo(frame, identifier, sequence))

    def requests(self) -> Seen:
        """Echo requests."""
        return self.where("request", lambda frame: _icmp_kind(frame) in (8, 128))

    def replies(self) -> Seen:
        """Echo replies."""
        return self.where("reply", lambda frame: _icmp_kind(frame) in (0, 129))

    def of_kind(self, kind: int) -> Seen:
        """Of one ICMP type."""
        return self.requests() if kind == 8 else self.where(f"ICMP {kind}", lambda frame: _icmp_kind(frame) == kind)

    def quoting(self, source: str, destination: str) -> Seen:
        """ICMP errors about a packet between these (innermost quoted addresses)."""
        return self.where(
            f"quoting {source} > {destination}", lambda frame: _quoted_ends(frame) == (source, destination)
        )

    def matching(self, **wanted: object) -> Seen:
        """Frames that have these fields, named as in `each`; frames without such a header are left out."""
        words = ", ".join(f"{_dotted(name)} = {value}" for name, value in wanted.items())
        return self.where(words, lambda frame: all(_has_field(frame, name, value) for name, value in wanted.items()))

    # ------------------------------------------------------------------ demanding
    def some(self, what: str = "") -> Seen:
        """At least one frame. Raises Mismatch that tells what was there instead."""
        if not self.frames:
            raise Mismatch(f"{self._subject(what)}: seen none, wanted some; {_stacks(self.instead)}")
        return self

    def none(self, what: str = "", *, witness: Seen, elsewhere: str = "") -> None:
        """No frame at all. Raises Mismatch for the first one, and WorldError where silence proves nothing.

        It proves something if every tap in question saw both sentinels of the window and dropped nothing, and if
        `witness`, frames that have to be there, has some at each of these taps. `elsewhere` says why they came past
        another one, where nothing has to come past this.
        """
        if self.frames:
            first = self.frames[0]
            told = f"{first.where}: {what or self}: seen {first.stack} ({first.describe().partition('] ')[2]})"
            raise Mismatch(f"{told}, wanted none" + (f"; {len(self.frames)} such frames" if len(self) > 1 else ""))
        for window in self.windows or tuple(self.capture.windows):
            for tap in self.taps or self.capture.taps:
                self._need_awake(window, tap, what)
        if not self.windows and not self.capture.windows:
            raise WorldError(f"{self._subject(what)}: silence proves nothing: no window, no sentinel")
        if not witness.frames:
            raise WorldError(f"{self._subject(what)}: silence proves nothing: no witness either ({witness})")
        if (unseen := set(self.taps or self.capture.taps) - {frame.tap for frame in witness.frames}) and not elsewhere:
            told = f"no witness came past {', '.join(sorted(unseen))} ({witness})"
            raise WorldError(f"{self._subject(what)}: silence proves nothing: {told}")

    def one(self, what: str = "") -> Frame:
        """The only frame. Raises Mismatch for none or several."""
        self.some(what)
        if len(self.frames) > 1:
            numbers = ", ".join(str(frame.number) for frame in self.frames[:_NEAREST])
            raise Mismatch(f"{self._subject(what)}: seen {len(self.frames)} (frames {numbers} …), wanted one")
        return self.frames[0]

    def single(self, what: str = "") -> Seen:
        """The same selection, which holds exactly one frame. Raises Mismatch for none or several."""
        self.one(what)
        return self

    def first(self, what: str = "") -> Frame:
        """The first frame. Raises Mismatch where there is none."""
        return self.some(what).frames[0]

    def each(self, **wanted: object) -> Seen:
        """Every frame (and there is one) has these fields: `each(outer__ttl=63, vxlan__vni=4096, stack="eth ip icmp")`.

        A set stands for any of its members. Raises Mismatch for the first field of the first frame that differs.
        """
        for frame in self.some():
            for name, value in wanted.items():
                seen = field_of(frame, name)
                if not _equals(seen, value):
                    raise Mismatch(f"{frame.where}: {_dotted(name)}: seen {_shown(seen)}, wanted {_shown(value)}")
            _note(frame, wanted)
        return self

    def _subject(self, what: str) -> str:
        return f"{self.capture.name}: {what} ({self})" if what else f"{self.capture.name}: {self}"

    def _need_awake(self, window: str, tap: str, what: str) -> None:
        if tap not in self.capture.windows[window].taps:
            raise WorldError(
                f"{self._subject(what)}: silence proves nothing: {tap} lacks a sentinel of window {window}",
                hint="the tap was opened late, its device was down, or it is gone",
            )
        drops = self.capture.drops.get(tap)
        if drops != 0:
            told = "an unknown number of" if drops is None else str(drops)
            raise WorldError(f"{self._subject(what)}: silence proves nothing: {tap} dropped {told} frames")


def _note(frame: Frame, wanted: Mapping[str, object]) -> None:
    if _notes is None or len(_notes) >= _MOST_NOTES:
        return
    if all({_dotted(name) for name in wanted} != {field for field, _, _ in note.fields} for note in _notes):
        told = tuple((_dotted(name), _shown(field_of(frame, name)), _shown(value)) for name, value in wanted.items())
        _notes.append(Note(frame.capture, frame.number, told))


def field_of(frame: Frame, name: str) -> object:
    """The value that `header__field` names. Raises Mismatch where the frame lacks the header, Bug for a wrong name."""
    header, _, field = name.partition("__")
    owner = _owner(frame, header, field)
    if not hasattr(owner, field or header):
        raise Bug(f"{_dotted(name)}: a frame has no such field")
    value: object = getattr(owner, field or header)
    return value


def _owner(frame: Frame, header: str, field: str) -> object:
    if not field:
        return frame
    if header in ("outer", "inner", "innermost", "last"):
        return getattr(frame, header)
    if header in ("ethernet", "inner_ethernet"):
        number = 0 if header == "ethernet" else 1
        if len(frame.ethernets) <= number:
            raise Mismatch(
                f"{frame.where}: {header}: seen {len(frame.ethernets)} Ethernet header(s) in {frame.stack!r}"
            )
        return frame.ethernets[number]
    match header:
        case "arp":
            return frame.find(Arp)
        case "udp":
            return frame.find(Udp)
        case "tcp":
            return frame.find(Tcp)
        case "icmp":
            return frame.find(Icmp)
        case "icmpv6":
            return frame.find(Icmpv6)
        case "vxlan":
            return frame.find(Vxlan)
    raise Bug(f"{header}.{field}: a frame has no such header; outer, inner, innermost, last, ethernet, udp, icmp …")


def _has_field(frame: Frame, name: str, wanted: object) -> bool:
    try:
        return _equals(field_of(frame, name), wanted)
    except Mismatch:
        return False


def _equals(seen: object, wanted: object) -> bool:
    return seen in wanted if isinstance(wanted, (set, frozenset)) else seen == wanted


def _shown(value: object) -> str:
    return " or ".join(sorted(map(str, value))) if isinstance(value, (set, frozenset)) else str(value)


def _dotted(name: str) -> str:
    return name.replace("__", ".")


def _ends(frame: Frame) -> tuple[str, str] | None:
    return (frame.innermost.source, frame.innermost.destination) if frame.ips else None


def _icmp(frame: Frame) -> Icmp | Icmpv6 | None:
    """Its ICMP message of either family."""
    return next((header for header in frame.headers if isinstance(header, (Icmp, Icmpv6))), None)


def _icmp_kind(frame: Frame) -> int | None:
    icmp = _icmp(frame)
    return icmp.kind if icmp is not None else None


def _is_echo(frame: Frame, identifier: int, sequence: int | None) -> bool:
    icmp = _icmp(frame)
    if icmp is None or icmp.kind not in (0, 8, 128, 129):
        return False
    return icmp.identifier == identifier and sequence in (None, icmp.sequence)


def _quoted_ends(frame: Frame) -> tuple[str, str] | None:
    icmp = _icmp(frame)
    ips = [header for header in icmp.quoted if isinstance(header, (Ipv4, Ipv6))] if icmp is not None else []
    return (ips[-1].source, ips[-1].destination) if ips else None


def _stacks(frames: tuple[Frame, ...]) -> str:
    """The commonest stacks and how often each."""
    if not frames:
        return "there was nothing at all"
    counted = Counter(frame.stack for frame in frames).most_common()
    told = ", ".join(f"{count} × {stack or 'no header'}" for stack, count in counted[:_NEAREST])
    return f"there was {told}" + (" …" if len(counted) > _NEAREST else "")
