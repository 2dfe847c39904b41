"""Reads what was typed after `./lab` against the menu. Pure: words in, a request or one message per mistake out."""

from __future__ import annotations

import difflib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tunlab.command.menu import Entry, Parameter
from tunlab.errors import LabError

_LONGEST_HINT = 70
_FALSE_START = "the words of a command stand after --"


@dataclass(frozen=True)
class Request:
    """A task and the arguments to call it with."""

    entry: Entry
    arguments: Mapping[str, object]


def read_line(words: Sequence[str], menu: Mapping[str, Entry]) -> Request:
    """The request that `words` make; raises LabError with every mistake in them.

    What stands after the first `--` is kept word for word. Options may stand anywhere before it, as `--mode ipip` or
    `--mode=ipip`; one that takes several values takes them separated by commas, repeated, or both.
    """
    entry = find_task(words[0], menu)
    before, rest = _split_at_dashes(words[1:])
    mistakes: list[LabError] = []
    given: dict[str, list[str]] = {}
    loose = list(_take_options(entry, before, given, mistakes))
    for parameter in entry.positionals:
        if loose:
            given[parameter.attribute] = [loose.pop(0)]
        elif parameter.required and parameter.attribute not in given:
            mistakes.append(_mistake(f"{entry.name}: {parameter.placeholder} is missing: {parameter.help}", entry))
    if not mistakes:  # a word too many is most often the value of an option that is not one
        mistakes += _judge_rest(entry, rest, loose)
    arguments: dict[str, object] = {each.attribute: each.default for each in entry.parameters}
    for parameter in entry.parameters:
        if parameter.attribute in given:
            arguments[parameter.attribute] = _read_values(entry, parameter, given[parameter.attribute], mistakes)
        elif parameter.kind is list:
            arguments[parameter.attribute] = list(rest or []) if entry.takes_rest(parameter) else []
    if mistakes:
        texts = tuple(map(str, mistakes))
        raise LabError(texts[0], mistakes=texts)
    return Request(entry, arguments)


def find_task(name: str, menu: Mapping[str, Entry]) -> Entry:
    """The menu's entry of that name; raises LabError with the nearest one as a hint."""
    if name not in menu:
        if name.startswith("-"):
            raise LabError(f"{name}: a task comes first", hint="./lab TASK [OPTIONS]; ./lab alone prints the menu")
        hint = f"did you mean ./lab {near}?" if (near := _nearest(name, menu)) else "./lab alone prints the menu"
        raise LabError(f"{name}: no such task\n  legal: {' '.join(menu)}", hint=hint)
    return menu[name]


def _split_at_dashes(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    if "--" not in words:
        return list(words), None
    at = list(words).index("--")
    return list(words[:at]), list(words[at + 1 :])


def _take_options(
    entry: Entry, words: list[str], given: dict[str, list[str]], mistakes: list[LabError]
) -> Iterable[str]:
    """Moves every option of `words` into `given`; yields the words that belong to none."""
    flags = {each.flag: each for each in entry.parameters if not entry.takes_rest(each)}
    waiting = deque(words)
    while waiting:
        word = waiting.popleft()
        if not word.startswith("-") or word == "-":
            yield word
            continue
        flag, equals, value = word.partition("=")
        parameter = flags.get(flag)
        if parameter is None:
            mistakes.append(_unknown_option(entry, flag, [each.flag for each in entry.options]))
        elif parameter.kind is bool:
            if equals:
                mistakes.append(_mistake(f"{entry.name}: {flag} takes no value, got {value!r}", entry))
            given[parameter.attribute] = [""]
        elif equals:
            given.setdefault(parameter.attribute, []).append(value)
        elif not waiting or waiting[0] in flags:
            legal = f"\n  legal: {', '.join(parameter.choices)}" if parameter.choices else f": {parameter.help}"
            mistakes.append(_mistake(f"{entry.name}: {flag} wants a value{legal}", entry))
        else:
            given.setdefault(parameter.attribute, []).append(waiting.popleft())


def _judge_rest(entry: Entry, rest: list[str] | None, loose: list[str]) -> Iterable[LabError]:
    wants_rest = any(map(entry.takes_rest, entry.parameters))
    if loose and wants_rest and rest is None:
        yield LabError(f"{entry.name}: {loose[0]!r}: {_FALSE_START}", hint=entry.example)
    elif loose:
        yield _mistake(f"{entry.name}: unexpected word: {' '.join(loose)}", entry)
    elif wants_rest and not rest:
        yield LabError(f"{entry.name}: no command: {_FALSE_START}", hint=entry.example)
    if rest is not None and not wants_rest:
        yield _mistake(f"{entry.name}: takes nothing after --, got: {' '.join(rest)}", entry)


def _read_values(entry: Entry, parameter: Parameter, texts: list[str], mistakes: list[LabError]) -> object:
    where = f"{entry.name}: {parameter.placeholder if parameter.positional else parameter.flag}"
    if parameter.kind is bool:
        return True
    if parameter.kind is list:
        values = [value.strip() for text in texts for value in text.split(",")]
    elif len(texts) > 1:
        mistakes.append(_mistake(f"{where}: one value, got {len(texts)}: {' '.join(texts)}", entry))
        return parameter.default
    else:
        values = texts
    for value in values:
        if not value:
            mistakes.append(LabError(f"{where}: an empty value", hint=f"see ./lab help {entry.name}"))
        elif parameter.choices and value not in parameter.choices:
            near = _nearest(value, parameter.choices)
            hint = f"did you mean {near}?" if near else f"see ./lab help {entry.name}"
            mistakes.append(
                LabError(f"{where} {value}: not one of them\n  legal: {', '.join(parameter.choices)}", hint=hint)
            )
    if parameter.kind in (int, float):
        return _read_number(where, parameter, values[0], mistakes)
    return list(dict.fromkeys(values)) if parameter.kind is list else values[0]


def _read_number(where: str, parameter: Parameter, text: str, mistakes: list[LabError]) -> object:
    legal = "a whole number above 0" if parameter.kind is int else "seconds above 0, such as 90 or 0.5"
    try:
        number = parameter.kind(text)
    except ValueError:
        number = 0
    if not 0 < number < 1e9:
        example = f"see ./lab help {where.split(':')[0]}"
        mistakes.append(LabError(f"{where} {text}: not such a number\n  legal: {legal}", hint=example))
    return number


def _unknown_option(entry: Entry, flag: str, flags: list[str]) -> LabError:
    near = _nearest(flag, flags)
    legal = " ".join(flags) or "none"
    hint = f"did you mean {near}?" if near else f"see ./lab help {entry.name}"
    return LabError(f"{entry.name}: {flag}: no such option\n  legal: {legal}", hint=hint)


def _mistake(text: str, entry: Entry) -> LabError:
    short = len(entry.usage) <= _LONGEST_HINT
    return LabError(text, hint=entry.usage if short else f"see ./lab help {entry.name}")


def _nearest(word: str, words: Iterable[str]) -> str:
    return next(iter(difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)), "")
