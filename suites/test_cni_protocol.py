"""The CNI protocol, asked of any plugin and any conflist: versions, parameters, errors.

Each test calls the first plugin of the first node's conflist as a runtime would, and a little worse.
"""

from tunlab.check.guest import SPEC, document, guest, is_silent, judged, nothing_left, refused, succeeded
from tunlab.check.scene import Scene

VERBS = ("ADD", "DEL", "CHECK")


@judged("CNI-07", source=f"{SPEC} 2, VERSION; section 5, Version")
def test_version_needs_its_command_alone(scene: Scene) -> None:
    """VERSION answers with its versions where no container, namespace or interface is named."""
    with guest(scene) as one:
        bare = dict.fromkeys(("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"))
        done = scene.live.runtime.call(
            "VERSION", one.sandbox, {"cniVersion": "1.0.0", "type": one.config["type"]}, bare
        )
        said = document(succeeded(done))
    versions = said.get("supportedVersions")
    assert isinstance(versions, list) and versions, f"{one.node}: VERSION: supportedVersions is {versions!r}"
    assert isinstance(said.get("cniVersion"), str), f"{one.node}: VERSION: cniVersion is {said.get('cniVersion')!r}"


@judged("CNI-08", needs=("cni-letter",), source=f"{SPEC} 5, Version and Error: cniVersion")
def test_answers_carry_the_version_of_the_question(scene: Scene) -> None:
    """VERSION and every error object carry the version that the request was written in."""
    with guest(scene) as one:
        for version in ("0.4.0", "1.0.0"):
            asked = {"cniVersion": version, "type": one.config["type"]}
            said = document(succeeded(scene.live.runtime.call("VERSION", one.sandbox, asked)))
            assert said.get("cniVersion") == version, f"{one.node}: VERSION in {version} answers in {said}"
            nowhere = {"CNI_NETNS": "/run/netns/nobody"}
            error = refused(one.call("ADD", nowhere, cniVersion=version), "a namespace that is not there")
            assert error.get("cniVersion") == version, f"{one.node}: ADD in {version}: its error says {error}"


@judged("CNI-09", source=f"{SPEC} 5, ADD Success: cniVersion")
def test_every_version_it_lists_works(scene: Scene) -> None:
    """For each version that the plugin lists ADD succeeds, its result is in that version, and DEL takes it away."""
    with nothing_left(scene), guest(scene) as one:
        versions = document(succeeded(one.call("VERSION")))["supportedVersions"]
        assert versions, f"{one.node}: VERSION lists none"
        for version in versions:
            result = one.add(cniVersion=version)
            told = result.get("cniVersion")
            assert told == version, f"{one.node}: ADD in {version}: its result is in {told}"
            one.delete(cniVersion=version, prevResult=result)


@judged("CNI-10", source=f"{SPEC} 2, Parameters; section 5, Error code 4")
def test_a_missing_parameter_is_named(scene: Scene) -> None:
    """A verb without a parameter that it needs, and one that is no verb, get code 4, which names the parameter."""
    needed = {verb: ["CNI_CONTAINERID", "CNI_IFNAME", *(["CNI_NETNS"] if verb != "DEL" else [])] for verb in VERBS}
    with nothing_left(scene), guest(scene) as one:
        for verb, names in needed.items():
            for name in names:
                said = refused(one.call(verb, {name: None}), f"no {name}", 4)
                words = f"{said['msg']} {said.get('details', '')}"
                assert name.removeprefix("CNI_").lower() in words.lower(), (
                    f"{one.node}: {verb}: {words!r}: names no {name}"
                )
        refused(one.call("FLY"), "a verb that is none", 4)


@judged("CNI-11", source=f"{SPEC} 2, Parameters: CNI_CONTAINERID, CNI_IFNAME")
def test_parameters_that_cannot_be_are_refused(scene: Scene) -> None:
    """A container id with a path in it, and an interface name that Linux cannot have, are errors and leave nothing."""
    wrong = [("CNI_CONTAINERID", "../../etc/passwd"), ("CNI_CONTAINERID", "-first")]
    wrong += [("CNI_IFNAME", "sixteenletters-x"), ("CNI_IFNAME", "a/b"), ("CNI_IFNAME", "..")]
    with nothing_left(scene), guest(scene) as one:
        links = set(one.tables().links)
        for name, value in wrong:
            refused(one.call("ADD", {name: value}), f"{name}={value}")
            more = sorted(set(one.tables().links) - links)
            assert not more, f"{one.name}: ADD with {name}={value} left {', '.join(more)}"


@judged("CNI-12", source=f"{SPEC} 5, Error code 6")
def test_what_is_no_json_is_told_so(scene: Scene) -> None:
    """A configuration that is cut off, or no JSON at all, gets code 6 for each verb and leaves nothing."""
    with nothing_left(scene), guest(scene) as one:
        for verb in VERBS:
            for text in ('{"cniVersion": "1.0.0", "name"', "hello"):
                refused(scene.live.runtime.call(verb, one.sandbox, text), f"{text!r} for a configuration", 6)


@judged("CNI-13", source=f"{SPEC} 1; section 5, Error code 7")
def test_a_network_without_a_name_is_refused(scene: Scene) -> None:
    """A configuration without a name, or with one that is a path, gets code 7 and leaves nothing."""
    with nothing_left(scene), guest(scene) as one:
        refused(one.call("ADD", name=None), "no name", 7)
        refused(one.call("ADD", name="../net"), "the name ../net", 7)


@judged("CNI-14", source=f"{SPEC} 1, Plugin configuration objects; section 2: stdout and stderr")
def test_keys_that_nobody_knows_do_no_harm(scene: Scene) -> None:
    """ADD with further keys succeeds or names the key in an error of code 2; a success prints one JSON object alone."""
    with nothing_left(scene), guest(scene) as one:
        done = one.call("ADD", args={"org.example": {"colour": "blue"}}, colour={"org.example": "blue"})
        if done.rc != 0:
            words = refused(done, "a key that nobody knows", 2)["msg"]
            assert "colour" in words, f"{one.node}: ADD: code 2 without the key: {words!r}"
            return
        is_silent(one.call("DEL", prevResult=document(done)))
