"""The YAML file that describes a system: read with all its mistakes at once, or a Description that makes sense."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any, cast

from tunlab.lab.mistakes import KeyPath, Mistake, meant, refuse, shown, written
from tunlab.lab.source import read_text
from tunlab.lab.topology import MODES, Mode
from tunlab.systems.recipe import ABILITIES

CARRIAGES = ("ipip", "vxlan", "none")
TUNNELS = ("ipip", "vxlan", "vxlan6")
LAB_WORDS = ("store_ip", "mode", "pool")
NODE_WORDS = ("node", "node_ip", "uplink", "block", "store_ip", "mode", "pool")
PEER_WORDS = ("peer", "peer_ip", "peer_block", "peer_next_hop")
# {word} is a placeholder, {{word}} stands for {word} itself, and ${word} is the shell's.
PLACEHOLDER = re.compile(r"\{\{([a-z_]+)\}\}|(?<!\$)\{([a-z_]+)\}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,39}")
_MISSING = object()


@dataclass(frozen=True, slots=True)
class FileText:
    """One file, or with `link` a symbolic link, on every node."""

    path: str
    text: str
    link: str | None
    mode: int


@dataclass(frozen=True, slots=True)
class CommandText:
    """A command that runs to its end on every node, or with `for_each_peer` once per other node there."""

    run: tuple[str, ...]
    for_each_peer: bool
    stdin: str
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ProcessText:
    """A program that keeps running on every node."""

    name: str
    run: tuple[str, ...]
    env: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Description:
    """What the file says. `dialect` holds the arguments of recipe.Dialect."""

    name: str
    version: str | tuple[str, ...]
    modes: tuple[Mode, ...]
    abilities: frozenset[str]
    has_store: bool
    files: tuple[FileText, ...]
    setup: tuple[CommandText, ...]
    processes: tuple[ProcessText, ...]
    ready: tuple[str, ...] | None
    conflist: Mapping[str, Any]
    plugin_path: str
    ctl: tuple[str, ...] = ()
    dialect: Mapping[str, Any] = field(default_factory=dict)


def load_description(path: Path) -> Description:
    """The description in a file. Raises LabError that holds all mistakes, one text each, in the file's order."""
    place = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        what = str(error.strerror).lower() if isinstance(error, OSError) else "not UTF-8 text"
        mistake = Mistake((), what, "a YAML file in UTF-8 that you may read, or refnet", "look at it with `ls -l`")
        raise refuse([mistake.text(f"--system: {place}")]) from error
    source = read_text(text)
    reader = Reader([replace(each, legal=_WHOLE) if not each.path else each for each in source.mistakes])
    described = None
    if source.data is not None or not source.mistakes:
        described = _read(reader, source.data)
    if reader.mistakes or described is None:
        mistakes = sorted(reader.mistakes, key=lambda mistake: source.line(mistake.path))
        raise refuse(dict.fromkeys(each.text(f"{place}:{source.line(each.path)}") for each in mistakes))
    return described


class Reader:
    """Takes values out of plain data; what is wrong is noted, and something harmless stands in for it."""

    def __init__(self, mistakes: list[Mistake]) -> None:
        self.mistakes = mistakes

    def wrong(self, path: KeyPath, what: str, legal: str, hint: str) -> None:
        """Note a mistake."""
        self.mistakes.append(Mistake(path, what, legal, hint))

    def mapping(self, value: Any, path: KeyPath, keys: Mapping[str, str], required: tuple[str, ...]) -> dict[str, Any]:
        """A mapping with some of `keys`, which map to an example each."""
        if not isinstance(value, dict):
            legal = f"a mapping with {', '.join(keys)}"
            below = f"write keys and values below {written(path)}" if path else "docs/drivers.md has a whole example"
            self.wrong(path, f"{shown(value)}: not a mapping", legal, below)
            return {}
        for key in value:
            if key not in keys:
                hint = meant(str(key), keys, "delete it, or look for it in docs/drivers.md")
                self.wrong((*path, str(key)), "unknown key", ", ".join(keys), hint)
        for key in required:
            if key not in value:
                self.wrong((*path, key), "missing", f"such as {keys[key]}", f"add {key}: {keys[key]}")
        return {key: each for key, each in value.items() if key in keys}

    def text(self, value: Any, path: KeyPath, default: str = "") -> str:
        """A text; `default` where there is none."""
        if value is _MISSING:
            return default
        if not isinstance(value, str):
            hint = "put it in quotes" if isinstance(value, int | float) else "write a text"
            self.wrong(path, f"{shown(value)}: not a text", "a text", hint)
            return default
        return value

    def choice(self, value: Any, path: KeyPath, legal: tuple[str, ...], kind: str) -> str:
        """One of the legal words; "" where it is none of them, or missing."""
        if value is _MISSING:
            return ""
        if value not in legal:
            self.wrong(path, f"{shown(value)}: {kind}", ", ".join(legal), meant(str(value), legal, "choose one"))
            return ""
        return cast(str, value)

    def items(self, value: Any, path: KeyPath) -> Iterator[tuple[Any, KeyPath]]:
        """The items of a list, each with its path."""
        if value is _MISSING:
            return
        if not isinstance(value, list):
            hint = "start each item with a dash and a space"
            self.wrong(path, f"{shown(value)}: not a list", "a YAML list", hint)
            return
        for index, item in enumerate(value):
            yield item, (*path, index)

    def words(self, value: Any, path: KeyPath) -> tuple[str, ...]:
        """A command line: a list of texts, the program first."""
        if isinstance(value, str):
            hint = f"write [{', '.join(value.split())}], or [sh, -c, …] for a shell"
            self.wrong(path, f"{shown(value)}: not a list", "a list of words, the program first", hint)
            return ()
        found = tuple(self.text(item, at) for item, at in self.items(value, path))
        if value == []:
            self.wrong(path, "an empty list", "a list of words, the program first", "such as [bird, -f]")
        return found

    def table(self, value: Any, path: KeyPath, keys: tuple[str, ...] = ()) -> dict[str, str]:
        """Texts by name; the names are free where no `keys` are given."""
        if value is _MISSING:
            return {}
        if not isinstance(value, dict):
            self.wrong(path, f"{shown(value)}: not a mapping", "names and texts", f"write them below {written(path)}")
            return {}
        for key in value:
            if keys and key not in keys:
                self.wrong((*path, str(key)), "unknown key", ", ".join(keys), meant(str(key), keys, "choose one"))
        return {str(key): self.text(each, (*path, str(key))) for key, each in value.items()}

    def placeholders(self, value: Any, path: KeyPath, words: tuple[str, ...] = NODE_WORDS) -> None:
        """Every {word} in the texts of `value` must be one that will be filled in."""
        if isinstance(value, dict):
            for key, each in value.items():
                self.placeholders(each, (*path, str(key)), words)
        elif isinstance(value, list):
            for index, each in enumerate(value):
                self.placeholders(each, (*path, index), words)
        elif isinstance(value, str):
            for found in PLACEHOLDER.finditer(value):
                word = found[2]
                if word in PEER_WORDS and word not in words:
                    self.wrong(path, f"{{{word}}}: no peer here", ", ".join(words), "add for_each: peer to a command")
                elif word is not None and word not in words:
                    hint = meant(word, words, f"write {{{{{word}}}}} to get {{{word}}} itself")
                    self.wrong(path, f"{{{word}}}: no such placeholder", ", ".join(words), hint)


_KEYS = {
    "name": "cni-mine",
    "version": '"1.2.3"',
    "modes": "[none]",
    "abilities": "[host-routes]",
    "store": "etcd",
    "files": "[{path: /etc/mine.conf, text: …}]",
    "setup": "[{run: [ip, link]}]",
    "processes": "[{name: agent, run: [agentd]}]",
    "ready": "[agentctl, ready]",
    "conflist": '{cniVersion: "1.0.0", name: mine, plugins: [{type: ptp}]}',
    "plugin_path": "/opt/cni/bin",
    "ctl": '[env, "ETCD_ENDPOINTS=http://{store_ip}:2379", calicoctl]',
    "dialect": "{host_device_prefix: veth}",
}
_WHOLE = f"a mapping with {', '.join(_KEYS)}"
_DIALECT = {
    "host_device_prefix": "veth",
    "pod_gateway": "169.254.1.1",
    "tunnel_devices": "{vxlan: vxlan.mine}",
    "block_protocol": "{none: static}",
    "own_block_protocol": "{none: static}",
    "speaker_protocol": '{gobgp: "80"}',
    "vxlan_id": "4096",
    "vxlan_port": "4789",
    "keeps_ipam_in_etcd": "true",
}


def _read(reader: Reader, data: Any) -> Description:
    if data is None:
        reader.wrong((), "an empty file", _WHOLE, "docs/drivers.md has a whole example")
        data = dict.fromkeys(_KEYS, _MISSING)
    top = reader.mapping(data, (), _KEYS, ("name", "modes", "conflist", "dialect") if isinstance(data, dict) else ())
    get = _getter(top)
    name = reader.text(get("name"), ("name",), "x")
    if not _NAME.fullmatch(name):
        legal = "lower-case letters, digits, dots, dashes and underscores; at most 40"
        reader.wrong(("name",), f"{shown(name)}: not a name for a system", legal, "such as cni-mine")
    modes = tuple(reader.choice(each, at, MODES, "not a mode") for each, at in reader.items(get("modes"), ("modes",)))
    if get("modes") == []:
        reader.wrong(("modes",), "an empty list", ", ".join(MODES), "a system offers one mode or more")
    abilities = [
        reader.choice(each, at, tuple(ABILITIES), "no such ability")
        for each, at in reader.items(get("abilities"), ("abilities",))
    ]
    version, ready = get("version"), get("ready")
    processes = tuple(_process(reader, each, at) for each, at in reader.items(get("processes"), ("processes",)))
    for index, process in enumerate(processes):
        if process.name in {each.name for each in processes[:index]}:
            what = f"{shown(process.name)}: a name that another process has"
            reader.wrong(("processes", index, "name"), what, "each name once", "it names the log, too")
    if processes and "agent" not in abilities:
        what, legal = "processes without the ability agent", "an ability by which somebody asks whether they still run"
        reader.wrong(("processes",), what, legal, "add agent to abilities")
    for key in ("conflist", "ready"):
        reader.placeholders(top.get(key), (key,))
    reader.placeholders(top.get("ctl"), ("ctl",), LAB_WORDS)
    dialect = _dialect(reader, get("dialect"))
    _keep_what_abilities_need(reader, abilities, {**top, **dialect})
    return Description(
        name=name,
        version=reader.words(version, ("version",)) if isinstance(version, list) else _version(reader, version),
        modes=cast(tuple[Mode, ...], modes),
        abilities=frozenset(abilities),
        has_store=bool(reader.choice(get("store"), ("store",), ("etcd",), "not a store")),
        files=tuple(_file(reader, each, at) for each, at in reader.items(get("files"), ("files",))),
        setup=tuple(_command(reader, each, at) for each, at in reader.items(get("setup"), ("setup",))),
        processes=processes,
        ready=None if ready is _MISSING else reader.words(ready, ("ready",)),
        conflist=_conflist(reader, get("conflist")),
        plugin_path=_absolute(reader, get("plugin_path"), ("plugin_path",), "/opt/cni/bin"),
        ctl=() if get("ctl") is _MISSING else reader.words(get("ctl"), ("ctl",)),
        dialect=dialect,
    )


_BY_MANIFESTS = (
    *("bgp-peers", "host-endpoints", "mode-switch", "mtu-follows", "nat"),
    *("policy", "pools", "repairs", "repairs-on-event"),
)
# What a claim cannot be asked without: the device's name, the programs, or one that applies manifests.
_WANTED = {
    "agent": ("processes", ""),
    **{name: ("dialect.tunnel_devices", name) for name in ("ipip", "vxlan")},
    "ipam-in-etcd": ("dialect.keeps_ipam_in_etcd", ""),
    **dict.fromkeys(_BY_MANIFESTS, ("ctl", "")),
}


def _keep_what_abilities_need(reader: Reader, abilities: list[str], said: Mapping[str, Any]) -> None:
    """An ability that could only end in a broken verdict is a mistake of the file."""
    for index, ability in enumerate(abilities):
        key, below = _WANTED.get(ability, ("", ""))
        name = key.rpartition(".")[2]
        value = said.get(name)
        if key and not (value.get(below) if below and isinstance(value, dict) else value):
            example = _KEYS.get(key) or _DIALECT[name].replace("{vxlan: vxlan.mine}", f"{{{below}: {below}.mine}}")
            what = f"{ability}: cannot be asked without {key}{'.' + below if below else ''}"
            reader.wrong(("abilities", index), what, f"an ability that {key} goes with", f"add {key}: {example}")


def _getter(mapping: Mapping[str, Any]) -> Any:
    return lambda key: mapping.get(key, _MISSING)


def _version(reader: Reader, value: Any) -> str:
    return reader.text(value, ("version",), "unknown")


def _absolute(reader: Reader, value: Any, path: KeyPath, default: str = "/") -> str:
    text = reader.text(value, path, default)
    if not text.startswith("/"):
        reader.wrong(path, f"{shown(text)}: not an absolute path", "a path that begins with /", f"such as {default}")
    return text


def _file(reader: Reader, value: Any, path: KeyPath) -> FileText:
    keys = {"path": "/etc/mine.conf", "text": "…", "link": "/usr/bin/mine", "mode": '"0644"'}
    one = reader.mapping(value, path, keys, ("path",))
    get = _getter(one)
    reader.placeholders(one, path)
    if one and ("text" in one) == ("link" in one):
        both = "text" in one
        what = "has both text and link" if both else "has neither text nor link"
        reader.wrong(path, what, "text (a file) or link (a symbolic link)", "keep one" if both else "add one of them")
    mode = one.get("mode", "0644")
    if not isinstance(mode, str) or not re.fullmatch(r"0?[0-7]{3}", mode):
        hint = 'in quotes, such as "0755"'
        reader.wrong((*path, "mode"), f"{shown(mode)}: not a file mode", "three octal digits", hint)
        mode = "0644"
    link = get("link")
    return FileText(
        path=_absolute(reader, get("path"), (*path, "path"), "/etc/mine.conf"),
        text=reader.text(get("text"), (*path, "text")),
        link=None if link is _MISSING else reader.text(link, (*path, "link")),
        mode=int(mode, 8),
    )


def _command(reader: Reader, value: Any, path: KeyPath) -> CommandText:
    keys = {"run": "[ip, link]", "for_each": "peer", "stdin": "…", "env": "{NAME: value}"}
    one = reader.mapping(value, path, keys, ("run",))
    get = _getter(one)
    for_each = reader.choice(get("for_each"), (*path, "for_each"), ("node", "peer"), "not a way to repeat a command")
    reader.placeholders(one, path, NODE_WORDS + PEER_WORDS if for_each == "peer" else NODE_WORDS)
    return CommandText(
        run=reader.words(get("run"), (*path, "run")),
        for_each_peer=for_each == "peer",
        stdin=reader.text(get("stdin"), (*path, "stdin")),
        env=reader.table(get("env"), (*path, "env")),
    )


def _process(reader: Reader, value: Any, path: KeyPath) -> ProcessText:
    one = reader.mapping(value, path, {"name": "agent", "run": "[agentd]", "env": "{NAME: value}"}, ("name", "run"))
    get = _getter(one)
    reader.placeholders(one, path)
    name = reader.text(get("name"), (*path, "name"), "x")
    if not _NAME.fullmatch(name):
        legal = "lower-case letters, digits, dots, dashes and underscores; at most 40"
        reader.wrong((*path, "name"), f"{shown(name)}: not a name for a process", legal, "such as agent")
    return ProcessText(name, reader.words(get("run"), (*path, "run")), reader.table(get("env"), (*path, "env")))


def _conflist(reader: Reader, value: Any) -> Mapping[str, Any]:
    """CNI specification 1.0.0, section 1: what a network configuration list must have."""
    if value is _MISSING:
        return {}
    if not isinstance(value, dict):
        legal = "a mapping with cniVersion, name, plugins"
        reader.wrong(("conflist",), f"{shown(value)}: not a mapping", legal, f"write {_KEYS['conflist']}")
        return {}
    for key, example in (("cniVersion", '"1.0.0"'), ("name", "mine"), ("plugins", "[{type: ptp}]")):
        if key not in value:
            reader.wrong(("conflist", key), "missing", f"such as {example}", f"add {key}: {example}")
        elif key != "plugins" and not reader.text(value[key], ("conflist", key), "x"):
            reader.wrong(("conflist", key), "an empty text", "a text", f"such as {example}")
    if value.get("plugins") == []:
        reader.wrong(("conflist", "plugins"), "an empty list", "one plugin or more", "add - type: ptp")
    for plugin, at in reader.items(value.get("plugins", _MISSING), ("conflist", "plugins")):
        kind = plugin.get("type") if isinstance(plugin, dict) else None
        if not isinstance(kind, str) or not kind or "/" in kind:
            what = "has no type" if kind is None else f"{shown(kind)}: not a type"
            reader.wrong(at, what, "a mapping with type, a program's name without its path", "add type: ptp")
    return value


def _dialect(reader: Reader, value: Any) -> dict[str, Any]:
    if value is _MISSING:
        return {}
    path: KeyPath = ("dialect",)
    one = reader.mapping(value, path, _DIALECT, ("host_device_prefix",) if isinstance(value, dict) else ())
    found: dict[str, Any] = {}
    if "host_device_prefix" in one:
        found["host_device_prefix"] = reader.text(one["host_device_prefix"], (*path, "host_device_prefix"))
    keys_of = {"tunnel_devices": TUNNELS, "block_protocol": CARRIAGES, "own_block_protocol": CARRIAGES}
    for key in (*keys_of, "speaker_protocol"):
        if key in one:
            found[key] = reader.table(one[key], (*path, key), keys_of.get(key, ()))
    for key, highest in (("vxlan_id", 2**24 - 1), ("vxlan_port", 65535)):
        if key in one:
            found[key] = one[key]
            if type(one[key]) is not int or not 1 <= one[key] <= highest:
                legal = f"a whole number from 1 to {highest}"
                reader.wrong(
                    (*path, key), f"{shown(one[key])}: not a number of its kind", legal, f"such as {_DIALECT[key]}"
                )
    if "keeps_ipam_in_etcd" in one:
        found["keeps_ipam_in_etcd"] = one["keeps_ipam_in_etcd"]
        if not isinstance(one["keeps_ipam_in_etcd"], bool):
            what = f"{shown(one['keeps_ipam_in_etcd'])}: not yes or no"
            reader.wrong((*path, "keeps_ipam_in_etcd"), what, "true, false", "without quotes")
    if "pod_gateway" in one:
        try:
            found["pod_gateway"] = IPv4Address(reader.text(one["pod_gateway"], (*path, "pod_gateway"), "0.0.0.0"))
        except AddressValueError:
            what = f"{shown(one['pod_gateway'])}: not an IPv4 address"
            reader.wrong((*path, "pod_gateway"), what, "four numbers from 0 to 255 with dots", "such as 169.254.1.1")
    return found
