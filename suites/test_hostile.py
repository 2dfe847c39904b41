"""What stands in the store may be half-written, huge or hostile: it is reported, and everything else works on."""

import base64
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from tunlab.check.requirement import requirement
from tunlab.check.scene import Scene
from tunlab.systems.recipe import STORE_PORT
from tunlab.systems.resource import resource

LABS = ("mixed",)
WITHIN_S = 10.0
RESOURCES = "/calico/resources/v3/projectcalico.org/"
STATUS = "/calico/felix/v2/no-region/host/{}/status"
SPOOR = "/run/owned"
COMMAND = f"$(touch {SPOOR}); touch {SPOOR} #"


def _etcd(scene: Scene, verb: str, body: Mapping[str, object]) -> Mapping[str, object]:
    """One call of etcd's JSON gateway, where keys and values may be any bytes."""
    url = f"http://127.0.0.1:{STORE_PORT}/v3/kv/{verb}"
    argv = ["curl", "-sf", "--data-binary", "@-", url]
    found: Mapping[str, object] = json.loads(scene.run(scene.topology.store.name, argv, stdin=json.dumps(body)).out)
    return found


def _coded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@contextmanager
def _stored(scene: Scene, objects: Mapping[str, bytes]) -> Iterator[None]:
    """These keys with these values, all at once; gone afterwards."""
    puts = [{"requestPut": {"key": _coded(key.encode()), "value": _coded(value)}} for key, value in objects.items()]
    _etcd(scene, "txn", {"success": puts})
    try:
        yield
    finally:
        _etcd(scene, "txn", {"success": [{"requestDeleteRange": {"key": _coded(key.encode())}} for key in objects]})


def _reported(scene: Scene, node: str) -> str:
    """What the node's agent says of itself in the store, as text."""
    kvs = _etcd(scene, "range", {"key": _coded(STATUS.format(node).encode())}).get("kvs")
    assert isinstance(kvs, list), f"store: {node} has not reported"
    return base64.b64decode(kvs[0]["value"]).decode()


def _size(scene: Scene, node: str) -> int:
    return len(_reported(scene, node))


def _invalid(scene: Scene, node: str) -> list[str]:
    found = json.loads(_reported(scene, node))["invalid"]
    assert isinstance(found, list)
    return found


def _survives(scene: Scene, objects: Mapping[str, bytes], *named: str) -> None:
    """Every agent names each of these in its report, works on, has run nothing, and forgets them afterwards."""
    nodes = scene.live.node_names()
    with _stored(scene, objects):
        for node in nodes:
            scene.eventually(
                partial(_invalid, scene, node),
                lambda lines: all(any(one in line for line in lines) for one in named),
                within_s=WITHIN_S,
                what=f"{node}: reports {', '.join(named)} as invalid",
            )
        with scene.pod("late", node=nodes[0]):
            scene.settle(
                [scene.question("late", "pod3"), scene.question("pod4", "late"), scene.question("pod1", "pod4")]
            )
        dead = scene.live.installation.dead()
        assert not dead, "; ".join(dead)
        for node in nodes:
            assert scene.run(node, ["test", "-e", SPOOR], check=False).rc != 0, f"{node}: a value was run as a command"
    for node in nodes:
        scene.eventually(
            partial(_invalid, scene, node),
            lambda lines: not lines,
            within_s=WITHIN_S,
            what=f"{node}: reports nothing as invalid any more",
        )


def _resource(kind: str, name: str, **spec: object) -> bytes:
    return json.dumps(resource(kind, name, **spec)).encode()


@requirement(
    "HOST-01",
    level="extended",
    scene="hostile",
    labs=LABS,
    modes=("vxlan",),
    needs=("status-in-store",),
    source="wrong input never stops an agent",
)
def test_a_value_written_by_half_is_reported_and_everything_else_works(scene: Scene) -> None:
    """Values that are cut short, empty, no JSON or nested without end are reported, and everything else works on."""
    half = _resource("IPPool", "half", cidr="10.99.0.0/16")
    objects = {
        f"{RESOURCES}ippools/half": half[: len(half) // 2],
        f"{RESOURCES}ippools/empty": b"",
        f"{RESOURCES}ippools/bytes": bytes(range(256)),
        f"{RESOURCES}nodes/deep": b"[" * 100_000,
        "/calico/ipam/v2/assignment/ipv4/block/10.99.0.0-26": b'{"cidr": "10.99.0.0/26", "affinity": 7}',
    }
    _survives(scene, objects, "ippools/half", "ippools/empty", "ippools/bytes", "nodes/deep", "10.99.0.0-26")


@requirement(
    "HOST-02",
    level="extended",
    scene="hostile",
    labs=LABS,
    modes=("vxlan",),
    needs=("status-in-store",),
    source="names reach neither a shell nor a path",
)
def test_hostile_names_are_reported_and_reach_neither_a_shell_nor_a_path(scene: Scene) -> None:
    """Names that are commands, paths or control characters are reported; none is run, and no file is made of them."""
    address = {"bgp": {"ipv4Address": "192.168.100.77/24"}, "ipv4VXLANTunnelAddr": "10.99.0.1"}
    endpoint = {"node": "node1", "ipNetworks": ["10.99.0.9/32"], "interfaceName": f"cali0{COMMAND}"}
    objects = {
        f"{RESOURCES}nodes/evil": _resource("Node", COMMAND, **address),
        f"{RESOURCES}nodes/a\nb": _resource("Node", "a\nb", **address),
        f"{RESOURCES}ippools/..": _resource("IPPool", "../../../run/owned", cidr="10.98.0.0/16"),
        f"{RESOURCES}ippools/nul\0": _resource("IPPool", "nul\0", cidr="10.97.0.0/16"),
        f"{RESOURCES}bgppeers/evil": _resource("BGPPeer", 'evil"; }\nprotocol static {', peerIP="192.0.2.9"),
        f"{RESOURCES}workloadendpoints/default/evil": _resource("WorkloadEndpoint", "evil", **endpoint),
    }
    _survives(scene, objects, "nodes/evil", "touch", "ippools/..", "ippools/nul", "bgppeers/evil")


@requirement(
    "HOST-03",
    level="extended",
    scene="hostile",
    labs=LABS,
    modes=("vxlan",),
    needs=("status-in-store",),
    source="size alone stops nobody",
)
def test_huge_values_are_reported_briefly(scene: Scene) -> None:
    """A selector of a megabyte and many bad objects are reported in a few lines, and everything else works on."""
    objects = {
        f"{RESOURCES}ippools/huge": _resource("IPPool", "huge", cidr="10.99.0.0/16", nodeSelector="(" * 1_000_000),
        **{f"{RESOURCES}ippools/bad{number}": b"{" for number in range(120)},
    }
    _survives(scene, objects, "ippools/bad0", "more")
    with _stored(scene, objects):
        for node in scene.live.node_names():
            size = scene.eventually(
                partial(_size, scene, node),
                lambda size: size > 1000,
                within_s=WITHIN_S,
                what=f"{node}: reports them",
            )
            assert size < 100_000, f"{node}: its report has {size} bytes"


POOL = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: NAME}\nspec: {cidr: 10.9.0.0/16}\n"
WRONG = {
    "a path for a name": POOL.replace("NAME", "../x"),
    "control characters": POOL.replace("NAME", '"a\\0b"'),
    "half a character": POOL.replace("NAME", '"\\ud800"'),
    "half a document": POOL.partition("NAME")[0],
    "a tag of Python's": f"!!python/object/apply:os.system ['touch {SPOOR}']\n",
    "a list": "- 1\n- 2\n",
    "nested deeply": "[" * 5000 + "]" * 5000 + "\n",
    "billions in a few lines": "a: &a [1]\n"
    + "".join(
        f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in itertools.pairwise("abcdefghijkl")
    ),
}


@requirement(
    "HOST-04",
    level="extended",
    scene="hostile",
    labs=LABS,
    modes=("vxlan",),
    needs=("status-in-store",),
    source="calicoctl: errors name the place and what is legal",
)
def test_a_wrong_manifest_is_refused_with_its_reason(scene: Scene) -> None:
    """A manifest that is hostile or broken is refused with a sentence, stores nothing and runs nothing."""
    before = scene.ctl("get", "ippools", "-o", "name").out
    for what, text in WRONG.items():
        done = scene.ctl("apply", "-f", "-", stdin=text, check=False)
        assert done.rc in (1, 2), f"apply: {what}: exit code {done.rc}: {done.out}"
        assert done.err.strip(), f"apply: {what}: says nothing"
        assert "Traceback" not in done.err, f"apply: {what}: {done.err.strip().splitlines()[-1]}"
    assert scene.ctl("get", "ippools", "-o", "name").out == before
    for node in scene.live.node_names():
        assert scene.run(node, ["test", "-e", SPOOR], check=False).rc != 0, f"{node}: a manifest was run"
