"""refnetctl: one verb, its words and options; exit code 0, 1 when the store says no, 2 when what was typed is wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import refnet
from refnet.errors import InvalidResource, Mistake, RefnetError

if TYPE_CHECKING:
    from refnet.model.kinds import Kind
    from refnet.store.etcd import Etcd

DEFAULT_ENDPOINT = "http://127.0.0.1:2379"
WIDTH = 80

USAGE = """\
refnetctl: look at and change a refnet (or Calico) network in etcd

  get KIND [NAME ...]    [-o table|wide|yaml|json|name] [-n NAMESPACE] [-a]
  get -f FILE            what the file names, as it is in the store
  apply -f FILE          create what is new, replace what exists
  create -f FILE         only what is new
  replace -f FILE        only what exists
  delete KIND NAME ... | -f FILE
  patch KIND NAME -p CHANGE      CHANGE: {"spec": {"ipipMode": "Never"}}
  node status            the BGP sessions of this node
  node clean [--yes]     what another CNI left on this node; --yes removes it
  ipam show              [--show-blocks] [--ip=ADDRESS] [--show-borrowed]
                         [--show-configuration]
  ipam check             compare allocations with their users [-o REPORT]
                         [--show-all-ips]
  ipam release           --ip=ADDRESS[,...] | --from-report=FILE[,...]
  ipam configure         --strictaffinity=true|false --max-blocks-per-host=N
  ipam claim CIDR --node=NODE    make a block a node's own
  ipam claim CIDR=NODE ...       the same for several nodes
  version

KIND: bgpconfiguration bgpfilter bgppeer felixconfiguration globalnetworkpolicy
      globalnetworkset hostendpoint ipamconfiguration ippool ipreservation
      kubecontrollersconfiguration networkpolicy networkset node profile tier
      workloadendpoint, plurals, aliases
FILE: YAML or JSON, one or many documents; - is standard input
etcd: environment ETCD_ENDPOINTS, default http://127.0.0.1:2379
"""

_WITH_VALUE = {
    "-f": "file", "--filename": "file", "-o": "output", "--output": "output", "-n": "namespace",
    "--namespace": "namespace", "--ip": "ip", "--node": "node", "--from-report": "report",
    "--strictaffinity": "strict", "--max-blocks-per-host": "max-blocks", "-p": "patch", "--patch": "patch",
    "-t": "type", "--type": "type",
}  # fmt: skip
_FLAGS = {
    "--yes": "yes",
    "-a": "all", "--all-namespaces": "all", "--show-blocks": "blocks", "--skip-exists": "skip-exists",
    "--show-borrowed": "borrowed", "--show-configuration": "configuration", "--show-all-ips": "all-ips",
    "--show-problem-ips": "problem-ips", "--force": "force", "--skip-not-exists": "skip-not-exists",
    "--allow-version-mismatch": "mismatch", "-h": "help", "--help": "help",
}  # fmt: skip
_TAKES = {
    "get": {"file", "output", "namespace", "all"},
    "apply": {"file"},
    "create": {"file", "skip-exists"},
    "replace": {"file"},
    "delete": {"file", "namespace", "skip-not-exists"},
    "patch": {"patch", "type", "namespace"},
    "node status": set[str](),
    "node clean": {"yes"},
    "ipam show": {"blocks", "ip", "borrowed", "configuration"},
    "ipam check": {"output", "all-ips", "problem-ips"},
    "ipam release": {"ip", "report", "force"},
    "ipam configure": {"strict", "max-blocks"},
    "ipam claim": {"node"},
    "version": set[str](),
}
_OUTPUTS = ("table", "wide", "yaml", "json", "name")


@dataclass
class Line:
    """A command line, taken apart."""

    words: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    def option(self, name: str) -> str:
        return self.options.get(name, "")


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Run one command line; its exit code."""
    try:
        line = _taken_apart(list(sys.argv[1:] if arguments is None else arguments))
        if "help" in line.options or not line.words:
            print(USAGE, end="")
            return 0 if "help" in line.options else 2
        return _run(line, environment)
    except InvalidResource as error:
        for mistake in error.mistakes:
            _complain(f"{error.where}: {mistake}")
        return 2
    except RefnetError as error:
        _complain(str(error))
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `| head` has seen enough
        return 0
    except KeyboardInterrupt:
        return 130


def _run(line: Line, environment: Mapping[str, str]) -> int:
    verb = line.words.pop(0)
    if verb in ("node", "ipam") and line.words:
        verb = f"{verb} {line.words.pop(0)}"
    _refuse_unless_legal(verb, line)
    if verb == "version":
        print(f"Client Version:    {refnet.__version__}\nCluster Type:      refnet")
        return 0
    if verb == "node clean":
        from refnet.ctl.clean import clean

        said, code = clean(removes="yes" in line.options)
        print(said, end="")
        return code
    if verb == "node status":
        from refnet.ctl.node_status import node_status

        print(node_status(), end="")
        return 0
    from refnet.store.etcd import Etcd

    endpoints = (environment.get("ETCD_ENDPOINTS") or DEFAULT_ENDPOINT).split(",")
    store = Etcd([endpoint.strip() for endpoint in endpoints if endpoint.strip()])
    try:
        return _ipam(verb, line, store) if verb.startswith("ipam ") else _resources(verb, line, store)
    finally:
        store.close()


def _resources(verb: str, line: Line, store: Etcd) -> int:
    from refnet.ctl import documents, resources
    from refnet.model.kinds import kind_called

    read = documents.read_manifest(line.option("file")) if line.option("file") else []
    for document in read:
        for warning in document.warnings:
            _complain(f"warning: {warning}")
    if verb in ("apply", "create", "replace"):
        print(resources.write(store, verb, read, skip_existing="skip-exists" in line.options), end="")
        return 0
    namespace = line.option("namespace")
    kind = read[0].kind if read else kind_called(line.words[0])
    names = [name for word in line.words[1:] for name in word.split(",") if name]
    if verb == "patch":
        from refnet.ctl.patch import patch

        print(patch(store, kind, names[0], namespace, line.option("patch")), end="")
        return 0
    if verb == "delete":
        targets = [resources.target_of(document) for document in read] or [(kind, name, namespace) for name in names]
        print(resources.delete(store, targets, skip_missing="skip-not-exists" in line.options), end="")
        return 0
    single = len(names) == 1 or len(read) == 1
    space = _space(line, kind, names)
    wanted = [resources.target_of(document) for document in read] or [(kind, name, space) for name in names or [""]]
    found = [(kind, one) for kind, name, space in wanted for one in resources.get(store, kind, name, space)]
    form = line.option("output") or "table"
    for each in dict.fromkeys(kind for kind, _, _ in wanted):
        of_kind = [one for kind, one in found if kind is each]
        number = resources.cluster_as(store) if (each.name, form) == ("Node", "wide") else ""
        shown = resources.rendered(
            of_kind, each, form, single=single, namespaces="all" in line.options, as_number=number
        )
        print(shown, end="")
    return 0


def _space(line: Line, kind: Kind, names: Sequence[str]) -> str:
    """The namespace to look in; empty for all of them."""
    if not kind.namespaced or ("all" in line.options and not names):
        return ""
    return line.option("namespace") or "default"


def _ipam(verb: str, line: Line, store: Etcd) -> int:
    from refnet.ctl import ipam

    if verb == "ipam claim":
        for word in line.words:
            cidr, _, node = word.partition("=")
            print(ipam.claim(store, cidr, node or line.option("node")), end="")
    elif verb == "ipam check":
        findings, problems = ipam.check(store, report=line.option("output"), shows_all="all-ips" in line.options)
        print(findings, end="")
        return 1 if problems else 0
    elif verb == "ipam release" and line.option("report"):
        print(ipam.release_reported(store, line.option("report").split(",")), end="")
    elif verb == "ipam release":
        print(ipam.release(store, line.option("ip").split(",")), end="")
    elif verb == "ipam configure":
        strict, most = line.option("strict"), line.option("max-blocks")
        print(ipam.configure(store, strict_affinity=strict, max_blocks_per_host=most), end="")
    elif "borrowed" in line.options:
        print(ipam.show_borrowed(store), end="")
    elif "configuration" in line.options:
        print(ipam.show_configuration(store), end="")
    elif line.option("ip"):
        print(ipam.show_address(store, line.option("ip")), end="")
    else:
        print(ipam.show(store, blocks="blocks" in line.options), end="")
    return 0


def _taken_apart(arguments: list[str]) -> Line:
    line, mistakes = Line(), list[Mistake]()
    rest = iter(arguments)
    for word in rest:
        name, equals, value = word.partition("=")
        if word == "-" or not word.startswith("-"):
            line.words.append(word)
        elif name in _WITH_VALUE:
            given = value if equals else next(rest, None)
            if given is None or (not given and equals):
                mistakes.append(Mistake(name, "missing its value", f"{name} VALUE"))
            line.options[_WITH_VALUE[name]] = given or ""
        elif word in _FLAGS:
            line.options[_FLAGS[word]] = "yes"
        elif word[:2] in _WITH_VALUE and not word.startswith("--"):
            line.options[_WITH_VALUE[word[:2]]] = word[2:].removeprefix("=")
        else:
            mistakes.append(Mistake(name, "no such option", "refnetctl --help lists them"))
    if mistakes:
        raise InvalidResource("refnetctl", mistakes)
    return line


def _refuse_unless_legal(verb: str, line: Line) -> None:
    """One mistake for each word and option that the verb cannot take, and for each that it lacks."""
    if verb not in _TAKES:
        raise InvalidResource("refnetctl", [Mistake(verb, "no such command", ", ".join(_TAKES))])
    wrong = [
        Mistake(f"--{option}", f"means nothing to {verb}", ", ".join(sorted(_TAKES[verb])) or "no options")
        for option in line.options
        if option not in _TAKES[verb] | {"mismatch"}
    ]
    count, has_file = len(line.words), "file" in line.options
    if verb in ("apply", "create", "replace") and (count or not has_file):
        given = f"takes no {line.words[0]!r}" if has_file else "lacks a file"
        wrong.append(Mistake(verb, given, f"{verb} -f FILE"))
    elif verb == "get" and (count < 1 if not has_file else count):
        wrong.append(Mistake(verb, "which?", "get KIND [NAME ...], or get -f FILE"))
    elif verb == "delete" and (count < 2 if not has_file else count):
        wrong.append(Mistake(verb, "which?", "delete KIND NAME ..., or delete -f FILE"))
    elif verb == "patch" and (count != 2 or "patch" not in line.options):
        wrong.append(Mistake(verb, "which, and how?", "patch KIND NAME -p CHANGE"))
    elif verb == "patch" and line.option("type") not in ("", "merge", "strategic"):
        wrong.append(Mistake("--type", line.option("type"), "merge, strategic"))
    elif verb == "ipam claim" and not (count and (line.option("node") or all("=" in word for word in line.words))):
        wrong.append(Mistake(verb, "lacks its block or node", "ipam claim CIDR --node=NODE"))
    elif verb not in ("get", "delete", "patch", "ipam claim", "apply", "create", "replace") and count:
        wrong.append(Mistake(verb, f"takes no {line.words[0]!r}", verb))
    elif verb == "ipam release" and bool(line.option("ip")) == bool(line.option("report")):
        wrong.append(Mistake(verb, "which?", "ipam release --ip=ADDRESS, or --from-report=FILE"))
    elif verb == "ipam configure" and not (line.option("strict") or line.option("max-blocks")):
        wrong.append(Mistake(verb, "what?", "--strictaffinity=true|false, --max-blocks-per-host=N"))
    if verb != "ipam check" and line.option("output") not in ("", *_OUTPUTS):
        wrong.append(Mistake("-o", line.option("output"), ", ".join(_OUTPUTS)))
    if wrong:
        raise InvalidResource("refnetctl", wrong)


def _complain(message: str) -> None:
    """To stderr, in lines of at most 80 columns."""
    import textwrap

    for line in message.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        print(textwrap.fill(line, WIDTH, subsequent_indent=indent, break_on_hyphens=False), file=sys.stderr)
