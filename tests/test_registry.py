from __future__ import annotations

from collections.abc import Sequence

import pytest

from restore.errors import OptionsError, nearest
from restore.registry import Registry


@pytest.fixture
def shapes() -> Registry:
    registry = Registry("shape")

    @registry.add("Box", "cuboid")
    class Box:
        def __init__(self, material, width: int = 1, sides: Sequence[float] = (1.0,), *, name: str = "box"):
            self.material, self.width, self.sides, self.name = material, width, sides, name

    @registry.add("area")
    def area(x, y, *, border_px: int = 0):
        return x * y - border_px

    return registry


def test_builds_with_defaults_and_coercion(shapes):
    box = shapes.build({"type": "cuboid", "width": "3", "sides": [1, 2]}, "oak")
    assert (box.material, box.width, list(box.sides), box.name) == ("oak", 3, [1.0, 2.0], "box")


def test_binds_functions_through_keyword_only_arguments(shapes):
    assert shapes.bind({"type": "area", "border_px": 1})(2, 3) == 5
    with pytest.raises(OptionsError, match="unknown option"):
        shapes.bind({"type": "area", "x": 1})


def test_all_mistakes_at_once_with_paths_and_suggestions(shapes):
    problems = shapes.check({"type": "Box", "widht": 2, "sides": "wide", "name": [1]}, "thing", "material")
    assert sorted(p.path for p in problems) == ["thing.name", "thing.sides", "thing.widht"]
    message = next(p.message for p in problems if p.path == "thing.widht")
    assert "Did you mean 'width'?" in message
    assert "Allowed: width, sides, name" in message


def test_required_arguments(shapes):
    (problem,) = shapes.check({"type": "Box"}, "thing")
    assert problem.path == "thing.material"
    assert "missing" in problem.message


def test_unknown_names_list_what_exists(shapes):
    with pytest.raises(OptionsError, match=r"a\.type: unknown shape 'Boxx'\. Did you mean 'Box'\? Known: area, Box"):
        shapes.build({"type": "Boxx"}, path="a")
    with pytest.raises(OptionsError, match=r"type: missing: the name of the shape"):
        shapes.build({})


def test_names_cannot_be_taken_twice(shapes):
    with pytest.raises(ValueError, match=r"'cuboid' is registered already: <function .* needs another name"):
        shapes.add("cuboid")(lambda: None)


def test_decorators_are_written_with_parentheses(shapes):
    with pytest.raises(TypeError, match=r"write add\(\), or add\(NAME\)"):

        @shapes.add
        class Sphere:
            pass


def test_nearest_is_silent_when_nothing_is_close():
    assert nearest("zebra", ["SwinIR"]) == ""
    assert nearest("swinir", ["SwinIR", "EDT"]) == " Did you mean 'SwinIR'?"


def test_arguments_that_do_not_go_together_are_mistakes_of_the_block(shapes):
    @shapes.add("Window")
    def window(width: int = 8, heads: int = 2):
        if width % heads:
            raise ValueError(f"width {width} is not divisible by heads {heads}")

    with pytest.raises(OptionsError, match=r"^network_g: Window: width 8 is not divisible by heads 3\.$"):
        shapes.build({"type": "Window", "heads": 3}, path="network_g")


def test_variants_are_names_with_presets(shapes):
    @shapes.add("sheet", variants={"thin": {"depth": 1}, "thick": {"depth": 9}}, width=3)
    class Sheet:
        def __init__(self, width: int = 2, depth: int = 4):
            self.width, self.depth = width, depth

    built = [shapes.build({"type": name}) for name in ("sheet", "sheet_thin", "sheet_thick")]
    assert [(sheet.width, sheet.depth) for sheet in built] == [(3, 4), (3, 1), (3, 9)]
    assert shapes.build({"type": "sheet_thin", "depth": 2}).depth == 2
    assert shapes.variants("sheet") == ("sheet_thin", "sheet_thick")
    assert shapes.variants("Box") == ()
    with pytest.raises(ValueError, match="'sheet_thin' is registered already"):
        shapes.add("sheet_thin")(lambda: None)


def test_components_stand_where_they_are_looked_for():
    registry = Registry("layer", "restore.layers")

    def strange():
        pass

    strange.__module__ = "restore.encoders.strange"
    with pytest.raises(ValueError, match=r"'strange' stands in .*strange, but is looked for in restore\.layers"):
        registry.add()(strange)
    strange.__module__ = "somebody.elses"
    registry.add()(strange)


def test_variants_are_not_listed_one_by_one():
    registry = Registry("encoder")
    registry.add("resnet", variants={"small": {"depth": 18}, "large": {"depth": 152}})(lambda depth=50: depth)
    registry.add("vit")(lambda: None)
    assert registry.names() == ["resnet", "resnet_large", "resnet_small", "vit"]
    assert [names for names, _ in registry.groups()] == [["resnet", "resnet_small", "resnet_large"], ["vit"]]
    (problem,) = registry.check("resnet_smal")
    assert problem.message == (
        "unknown encoder 'resnet_smal'. Did you mean 'resnet_small'? Known: resnet, vit, variants of these."
    )


def test_every_name_is_in_one_group():
    from restore.registry import ENCODERS

    names = [name for group, _ in ENCODERS.groups() for name in group]
    assert len(names) == len(set(names))
    assert {"convnext_atto", "vit_base_patch16_224", "hornet_tiny"} <= set(names)
