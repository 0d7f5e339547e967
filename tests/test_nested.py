"""Components inside components: every mistake at once, at any depth, wherever lists, mappings and unions hold them."""

from __future__ import annotations

import subprocess
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import pytest

import restore
from restore import registry as registries
from restore.errors import OptionsError
from restore.nested import Nested, marker_of, nested_components
from restore.registry import ENCODERS, OptionBlock, Registry
from restore.signature import annotations_of

TOYS = Registry("toy")
Toy = Annotated[OptionBlock, Nested(TOYS, "dim")]


@TOYS.add("ball", "sphere")
class Ball:
    def __init__(self, dim: int, radius: float = 1.0, heads: int = 1):
        if heads > radius:
            raise ValueError(f"{heads} heads do not fit a radius of {radius}")


@TOYS.add("box")
class Box:
    """Builds what `inner` describes, as networks build their parts."""

    def __init__(self, dim: int, inner: Toy = "ball", lid: Toy | None = None):
        self.inner = TOYS.build(inner, path="inner", dim=dim)


@TOYS.add("chest")
class Chest:
    def __init__(
        self,
        content: Toy | Sequence[Toy] = ("ball",),
        by_name: dict[str, Toy] | None = None,
        pair: tuple[Toy, Toy] = ("ball", "ball"),
        groups: Sequence[Mapping[str, list[Toy]]] = (),
        mode: Literal["none", "auto"] | Toy = "none",
        either: Toy | Mapping[str, Toy] = "ball",
        numbers: int | list[int] = 1,
    ):
        self.content = content


def mistakes(block: Any, path: str = "", *supplied: str) -> dict[str, str]:
    problems = TOYS.check(block, path, *supplied)
    found = {problem.path: problem.message for problem in problems}
    assert len(found) == len(problems), problems
    return found


@pytest.mark.parametrize(
    "block",
    [
        {"type": "chest", "content": "ball"},
        {"type": "chest", "content": {"type": "sphere", "radius": "2"}},
        {"type": "chest", "content": ["ball", {"type": "ball"}, {"type": "box", "inner": "ball", "lid": None}]},
        {"type": "chest", "content": []},
        {"type": "chest", "by_name": {"type": {"type": "ball"}, "b": "box"}},
        {"type": "chest", "groups": [{"a": ["ball"]}, {"a": [], "b": [{"type": "ball", "heads": 1}]}]},
        {"type": "chest", "mode": "auto"},
        {"type": "chest", "mode": "ball"},
        {"type": "chest", "either": {"type": "ball"}},
        {"type": "chest", "either": {"first": "ball", "second": {"type": "box"}}},
        "chest",
    ],
)
def test_what_is_right_has_no_mistakes(block):
    assert mistakes(block) == {}
    TOYS.build(block)


@pytest.mark.parametrize(
    ("arguments", "paths"),
    [
        ({"content": "bal"}, {"content": "unknown toy 'bal'. Did you mean 'ball'? Known: ball, box, chest."}),
        ({"content": {"type": "bal"}}, {"content.type": "unknown toy 'bal'. Did you mean 'ball'?"}),
        ({"content": ["ball", "bx"]}, {"content.1": "unknown toy 'bx'. Did you mean 'box'?"}),
        (
            {"content": [["ball"]]},
            {"content.0": "expected the name of a toy or a block {type: NAME, argument: value};"},
        ),
        (
            {"content": [8, None]},
            {"content.0": "expected the name of a toy", "content.1": "expected the name of a toy"},
        ),
        ({"content": 8}, {"content": "expected the name of a toy or a block {type: NAME, argument: value} or a list"}),
        ({"content": [{"radius": 2}]}, {"content.0.type": "missing: the name of the toy. Known: ball, box, chest."}),
        ({"content": [{}]}, {"content.0.type": "missing: the name of the toy."}),
        ({"content": [""]}, {"content.0": "missing: the name of the toy."}),
        ({"content": [{"type": 5}]}, {"content.0.type": "unknown toy '5'."}),
        ({"content": [{"type": ["ball"]}]}, {"content.0.type": "unknown toy '['ball']'."}),
        ({"content": [{"type": "ball", 7: 1}]}, {"content.0.7": ""}),
        ({"content": [{"type": "ball", "dim": 3}]}, {"content.0.dim": "not an option of ball here: it is set by"}),
        ({"content": [{"type": "ball", "radius": "wide"}]}, {"content.0.radius": "expected a number; given: 'wide'."}),
        (
            {"content": ["box", {"type": "ball", "raduis": 1}], "by_name": {"x": {"type": "ball", "head": 2}}},
            {
                "content.1.raduis": "unknown option of ball. Did you mean 'radius'? Allowed: radius, heads.",
                "by_name.x.head": "unknown option of ball. Did you mean 'heads'?",
            },
        ),
        ({"by_name": {"x": 1, "y": "bal"}}, {"by_name.x": "expected the name of a toy", "by_name.y": "unknown toy"}),
        ({"by_name": ["ball"]}, {"by_name": "expected a block of `key: value` lines; given: ['ball']."}),
        ({"pair": ["ball", "bal"]}, {"pair.1": "unknown toy 'bal'."}),
        ({"pair": ["bal"]}, {"pair.0": "unknown toy 'bal'.", "pair.1": "missing: this list needs at least 2 values."}),
        (
            {"groups": [{"a": ["ball", "bal"]}, {"b": [{"type": "box", "inner": {"type": "box", "lid": "bx"}}]}]},
            {"groups.0.a.1": "unknown toy 'bal'.", "groups.1.b.0.inner.lid": "unknown toy 'bx'."},
        ),
        ({"mode": "atuo"}, {"mode": "unknown toy 'atuo'."}),
        ({"mode": 3}, {"mode": "expected 'none' or 'auto' or the name of a toy"}),
        ({"either": {"first": "bal"}}, {"either.first": "unknown toy 'bal'."}),
        ({"either": {"type": "ball", "first": "ball"}}, {"either.first": "unknown option of ball."}),
        ({"numbers": [1, "x"]}, {"numbers.1": "expected a whole number; given: 'x'."}),
        ({"content": ["bal"], "contnt": 1}, {"content.0": "unknown toy", "contnt": "unknown option of chest."}),
    ],
)
def test_mistakes_stand_where_they_are(arguments, paths):
    found = mistakes({"type": "chest", **arguments}, "network_g")
    assert sorted(found) == sorted(f"network_g.{path}" for path in paths)
    for path, start in paths.items():
        assert found[f"network_g.{path}"].startswith(start)


def nest(depth: int, innermost: Any) -> dict[str, Any]:
    return {"type": "box", "inner": nest(depth - 1, innermost) if depth > 1 else innermost}


@pytest.mark.parametrize("depth", [5, 60])
def test_any_depth(depth):
    place = ".".join(["inner"] * depth)
    assert mistakes(nest(depth, {"type": "ball", "radus": 1}), "", "dim").keys() == {f"{place}.radus"}
    assert isinstance(TOYS.build(nest(depth, "ball"), dim=2), Box)


def test_what_does_not_go_together_is_named_with_its_whole_path():
    block = nest(3, {"type": "ball", "radius": 2, "heads": 4})
    with pytest.raises(OptionsError, match=r"^network_g\.inner\.inner\.inner: ball: 4 heads do not fit a radius of 2"):
        TOYS.build(block, path="network_g", dim=2)
    with pytest.raises(OptionsError, match=r"^inner\.inner\.inner: ball: 4 heads"):
        TOYS.build(block, dim=2)


def test_values_reach_the_constructor_as_they_are_written():
    content = ["ball", {"type": "ball", "radius": "2"}]
    assert TOYS.build({"type": "chest", "content": content}).content == content


def test_what_is_no_block_at_all():
    expected = "expected the name of a toy or a block {type: NAME, argument: value}; given:"
    assert mistakes(5, "toys") == {"toys": f"{expected} 5."}
    assert mistakes(["ball"]) == {"": f"{expected} ['ball']."}
    assert list(mistakes("bal", "toys")) == ["toys"]


def test_fallbacks_answer_for_names_that_a_registry_does_not_have():
    wider = Registry("thing")
    wider.add_fallback(TOYS)
    wider.add("own")(lambda size=1: None)
    assert wider.get("sphere") is Ball
    assert "sphere" in wider
    assert "sphere" not in wider.names()
    assert [names for names, _ in wider.groups()] == [["own"], ["ball", "sphere"], ["box"], ["chest"]]
    (problem,) = wider.check("spher", "x")
    assert problem.message == "unknown thing 'spher'. Did you mean 'sphere'? Known: own, ball, box, chest."


def test_timm_answers_for_names_that_are_not_ours():
    assert ENCODERS.get("resnet18") is ENCODERS.get("timm:resnet18")
    assert ENCODERS.check({"type": "resnet50.a1_in1k", "out_indices": [0]}, "encoder") == []
    (problem,) = ENCODERS.check({"type": "resnet50", "name": "resnet18"}, "encoder")
    assert problem.path == "encoder.name"
    assert "resnet18" not in ENCODERS.names()


@pytest.mark.parametrize(
    ("block", "path", "message"),
    [
        ("timm:resnet5", "encoder", "has no model 'resnet5'. Did you mean 'resnet50'?"),
        ("timm:", "encoder", "has no model ''."),
        ("resnet5", "encoder", "unknown encoder 'resnet5'. Did you mean 'resnet50'? Known: "),
        ("resnet50.no_such_weights", "encoder", "unknown encoder 'resnet50.no_such_weights'."),
        ("hf-hub:timm/resnet50", "encoder", "unknown encoder 'hf-hub:timm/resnet50'."),
        ({"type": "timm"}, "encoder.name", "missing: this option of timm has no default."),
        ({"type": "timm", "name": "resnet5"}, "encoder.name", "has no model 'resnet5'. Did you mean 'resnet50'?"),
    ],
)
def test_names_that_timm_does_not_have(block, path, message):
    (problem,) = ENCODERS.check(block, "encoder", "in_chans")
    assert problem.path == path
    assert message in problem.message


def test_timm_is_not_imported_for_our_own_names():
    code = (
        "import sys; from restore.registry import NETWORKS; from restore.options import load;"
        "block = {'type': 'UNetRestorer', 'encoder': {'type': 'conv_pyramid', 'width': 1}, 'mixer': 'windo'};"
        "found = NETWORKS.check(block, 'network_g');"
        "print([problem.path for problem in found], 'timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "['network_g.encoder.width', 'network_g.mixer'] False"


def test_build_model_names_all_nested_mistakes():
    with pytest.raises(OptionsError) as caught:
        restore.build_model(
            {
                "type": "MetaFormerRestorer",
                "mixers": [{"type": "window", "windw_size": 8}, "windo", 3],
                "embed_dim": "wide",
            }
        )
    assert [problem.path for problem in caught.value.problems] == [
        "mixers.0.windw_size",
        "mixers.1",
        "mixers.2",
        "embed_dim",
    ]


REGISTRIES = [each for each in vars(registries).values() if isinstance(each, Registry)]


PLAIN_BLOCKS = {"io_backend", "variables", "model_args", "space"}
"""Arguments that take a block of plain values, which names no component, or lists of components to choose from."""


def takes_any_block(annotation: Any) -> bool:
    """Whether something annotated so may be a mapping of which nothing is said, here or further inside."""
    if marker_of(annotation) is not None:
        return False
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping) and inner[-1] is Any):
        return True
    return origin is not Literal and any(map(takes_any_block, inner))


@pytest.mark.parametrize(
    "registry",
    [each for each in REGISTRIES if each.kind not in ("model_type", "optimizer")],  # built of more than option files
    ids=lambda registry: registry.kind,
)
def test_no_component_takes_blocks_that_nobody_checks(registry):
    unchecked = {
        f"{name}.{argument}"
        for name in registry
        for argument, annotation in annotations_of(registry.get(name)).items()
        if argument not in PLAIN_BLOCKS and takes_any_block(annotation)
    }
    assert not unchecked, "annotate it with an option of restore.registry, such as MixerOption"


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_defaults_of_components_that_hold_others(registry):
    import inspect

    for name in registry:
        component = registry.get(name)
        annotations = annotations_of(component)
        for argument, parameter in inspect.signature(component).parameters.items():
            if argument in annotations and parameter.default is not parameter.empty:
                for path, value, nested in nested_components(annotations[argument], parameter.default, argument):
                    assert nested.check(value, path) == [], f"{registry.kind} {name}"
