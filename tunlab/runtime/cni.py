"""What a container runtime does: make a pod's network namespace, call the plugins of a conflist, keep their result.

Source: CNI specification 1.0.0, sections 2 (execution protocol) and 3 (execution of network configurations).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunlab.box.box import Box, CommandFailed, Completed
from tunlab.errors import SystemFault, WorldError

TIMEOUT_S = 60.0
_NO_SUCH_PROGRAM = 127  # of env(1)
OFFLOADS = "rx off tx off sg off tso off gso off gro off"


class PluginFailed(SystemFault):
    """A plugin ended with an error; `code` is the specification's (section 5), or None when it did not say."""

    def __init__(self, message: str, done: Completed, code: int | None) -> None:
        super().__init__(message)
        self.done = done
        self.code = code


@dataclass(frozen=True, slots=True)
class Sandbox:
    """One attachment to be: which pod, on which node, under which container id; `arguments` become CNI_ARGS."""

    pod: str
    node: str
    namespace: str = "default"
    device: str = "eth0"
    arguments: Mapping[str, str] | None = field(default=None, compare=False)

    @property
    def container_id(self) -> str:
        """Derived from the names, so that a lab built twice is the same lab."""
        return hashlib.sha256(f"{self.node}/{self.namespace}/{self.pod}".encode()).hexdigest()

    @property
    def netns(self) -> str:
        """The path that CNI_NETNS carries; it means the same on every node of the box."""
        return f"/run/netns/{self.pod}"

    def environment(self, verb: str, plugin_path: str) -> dict[str, str]:
        """The parameters of section 2, "Protocol parameters"."""
        kubernetes = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": self.namespace,
            "K8S_POD_NAME": self.pod,
            "K8S_POD_INFRA_CONTAINER_ID": self.container_id,
        }
        arguments = {**kubernetes, **(self.arguments or {})}
        return {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": self.container_id,
            "CNI_NETNS": self.netns,
            "CNI_IFNAME": self.device,
            "CNI_PATH": plugin_path,
            "CNI_ARGS": ";".join(f"{key}={value}" for key, value in arguments.items()),
        }


class Runtime:
    """Attaches pods on the nodes of one box by one conflist per node."""

    def __init__(self, box: Box, conflists: Mapping[str, Mapping[str, Any]], plugin_path: str) -> None:
        self._box = box
        self._conflists = conflists
        self._plugin_path = plugin_path
        self._results: dict[Sandbox, dict[str, Any]] = {}

    # ------------------------------------------------------------------ pods
    def make_network(self, pod: str) -> None:
        """A fresh network namespace for a pod, loopback up and IPv6 off. Like: ip netns add POD"""
        quiet = {f"net.ipv6.conf.{which}.disable_ipv6": "1" for which in ("all", "default")}
        self._box.add_network(pod, quiet)

    def drop_network(self, pod: str) -> None:
        """Remove a pod's namespace; one that is gone already is fine. Like: ip netns del POD"""
        self._box.run("box", ["ip", "netns", "del", pod], check=False)

    def attach(self, sandbox: Sandbox, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """ADD in a fresh namespace; returns the last plugin's result. Raises PluginFailed, having called DEL."""
        self.make_network(sandbox.pod)
        try:
            result = self.add(sandbox, overrides)
            self._quieten_offloads(sandbox, result)
        except PluginFailed:
            self.delete(sandbox, overrides, check=False)
            self.drop_network(sandbox.pod)
            raise
        return result

    def detach(self, sandbox: Sandbox) -> None:
        """DEL, then remove the namespace."""
        self.delete(sandbox)
        self.drop_network(sandbox.pod)

    def adopt(self, sandbox: Sandbox, result: Mapping[str, Any]) -> None:
        """Take over the cached result of an ADD that another process did."""
        self._results[sandbox] = dict(result)

    def result_of(self, sandbox: Sandbox) -> dict[str, Any]:
        """The cached result of the last ADD."""
        return self._results[sandbox]

    # ------------------------------------------------------------------ the verbs
    def add(self, sandbox: Sandbox, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call every plugin in order, each with the result of the one before. Raises PluginFailed."""
        previous: dict[str, Any] | None = None
        for plugin in self._plugins(sandbox.node):
            config = self._config(sandbox.node, plugin, overrides, previous)
            done = self.call("ADD", sandbox, config)
            previous = self._parsed(done, "ADD")
            if not previous:
                raise PluginFailed(f"{done.place}: ADD: {plugin['type']}: printed no result", done, None)
        if previous is None:
            raise WorldError(f"{sandbox.node}: the conflist names no plugin")
        self._results[sandbox] = previous
        return previous

    def check(self, sandbox: Sandbox) -> None:
        """Call CHECK of every plugin in order with the last ADD's result. Raises PluginFailed.

        A conflist may forbid it (section 1, `disableCheck`); then nothing is called.
        """
        if self._conflists[sandbox.node].get("disableCheck"):
            return
        for plugin in self._plugins(sandbox.node):
            config = self._config(sandbox.node, plugin, None, self._results[sandbox])
            self._parsed(self.call("CHECK", sandbox, config), "CHECK")

    def delete(self, sandbox: Sandbox, overrides: Mapping[str, Any] | None = None, *, check: bool = True) -> None:
        """Call DEL of every plugin in reverse order. Raises PluginFailed with `check`."""
        result = self._results.get(sandbox)
        for plugin in reversed(self._plugins(sandbox.node)):
            done = self.call("DEL", sandbox, self._config(sandbox.node, plugin, overrides, result))
            if check:
                self._parsed(done, "DEL")
        self._results.pop(sandbox, None)

    def call(
        self, verb: str, sandbox: Sandbox, config: Mapping[str, Any] | str, env: Mapping[str, str | None] | None = None
    ) -> Completed:
        """One plugin, one verb, exactly as given; `env` replaces parameters, or removes those that are None.

        Raises PluginFailed when the plugin does not end, SystemFault when its type is a path (section 1 forbids that).
        """
        argv, text, whole = self._request(verb, sandbox, config, env)
        try:
            return self._box.run(sandbox.node, argv, stdin=text, env=whole, timeout_s=TIMEOUT_S, check=False)
        except CommandFailed as error:
            message = f"{sandbox.node}: {verb}: {argv[-1]}: still running after {TIMEOUT_S:g} s, killed"
            raise PluginFailed(message, error.done, None) from error

    def call_all(self, verb: str, calls: Sequence[tuple[Sandbox, Mapping[str, Any]]]) -> list[Completed]:
        """One plugin, one verb, for several containers at the same time; the answers in their order.

        Raises PluginFailed when one does not end.
        """
        commands = []
        for sandbox, config in calls:
            argv, text, whole = self._request(verb, sandbox, config, None)
            words = [f"{name}={value}" for name, value in whole.items()]
            commands.append((sandbox.node, ["env", *words, "sh", "-c", 'printf %s "$0" | exec "$@"', text, *argv]))
        try:
            return self._box.gather(commands, timeout_s=TIMEOUT_S, check=False)
        except CommandFailed as error:
            raise PluginFailed(f"{verb}: several at once: {error.message}", error.done, None) from error

    def first_config(self, node: str, overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The configuration that the first plugin of a node's conflist is called with."""
        return self._config(node, self._plugins(node)[0], overrides, None)

    # ------------------------------------------------------------------ inner workings
    def _request(
        self, verb: str, sandbox: Sandbox, config: Mapping[str, Any] | str, env: Mapping[str, str | None] | None
    ) -> tuple[list[str], str, dict[str, str]]:
        """Program, standard input and environment of a call."""
        whole = dict(sandbox.environment(verb, self._plugin_path))
        for name, value in (env or {}).items():
            if value is None:
                whole.pop(name, None)
            else:
                whole[name] = value
        text = config if isinstance(config, str) else json.dumps(config)
        kind = self._plugins(sandbox.node)[0]["type"] if isinstance(config, str) else config["type"]
        if "/" in kind:
            raise SystemFault(f"{sandbox.node}: {verb}: {kind}: the type of a plugin must not hold a path separator")
        return ["env", f"PATH={self._plugin_path}:/usr/sbin:/usr/bin:/sbin:/bin", kind], text, whole

    def _plugins(self, node: str) -> list[dict[str, Any]]:
        plugins: list[dict[str, Any]] = list(self._conflists[node]["plugins"])
        return plugins

    def _config(
        self,
        node: str,
        plugin: Mapping[str, Any],
        overrides: Mapping[str, Any] | None,
        previous: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        """Section 3, "Deriving request configuration from plugin configuration"."""
        conflist = self._conflists[node]
        config = {**plugin, **(overrides or {})}
        capabilities = config.pop("capabilities", None)
        del capabilities  # none of this runtime's callers asks for a dynamic capability
        config.update(cniVersion=conflist["cniVersion"], name=conflist["name"])
        if previous is not None:
            config["prevResult"] = previous
        return config

    def _parsed(self, done: Completed, verb: str) -> dict[str, Any]:
        """What a plugin printed. Raises PluginFailed when it ended with an error, or printed anything but an object."""
        where = f"{done.place}: {verb}: {done.argv[-1]}"
        if done.rc == _NO_SUCH_PROGRAM and not done.out.strip():
            raise PluginFailed(f"{where}: no such plugin in {self._plugin_path}", done, None)
        try:
            said = json.loads(done.out) if done.out.strip() else {}
        except ValueError as error:
            raise PluginFailed(f"{where}: its output is not JSON: {done.out[:80]!r}", done, None) from error
        if not isinstance(said, dict):
            raise PluginFailed(f"{where}: its output is no JSON object: {done.out[:80]!r}", done, None)
        if done.rc != 0:
            told = said.get("msg") or done.err.strip() or "it said nothing"
            detail = f" ({said['details']})" if said.get("details") else ""
            raise PluginFailed(f"{where}: exit code {done.rc}: {told}{detail}", done, said.get("code"))
        return said

    def _quieten_offloads(self, sandbox: Sandbox, result: Mapping[str, Any]) -> None:
        """A veth computes no checksums, so a capture on it would show wrong ones. Like: ethtool -K DEV tx off …"""
        commands = [(sandbox.pod, ["ethtool", "-K", sandbox.device, *OFFLOADS.split()])]
        for interface in result.get("interfaces", ()):
            if not interface.get("sandbox"):
                commands.append((sandbox.node, ["ethtool", "-K", interface["name"], *OFFLOADS.split()]))
        try:
            self._box.gather(commands)
        except CommandFailed as error:
            raise PluginFailed(
                f"{sandbox.node}: ADD: its result names what is not there: {error.message}", error.done, None
            ) from error
