"""`restore options`: explain, check and schema."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from restore.cli import main
from restore.options import Options

FILE = """\
name: demo
model_type: SRModel
scale: 4
network_g: {type: SwinIR, upscale: 4}
val: {save_img: true, suffix: ~}
train: {total_iter: 5, optim_g: {type: Adam, lr: 1e-4}}
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "150")
    path = tmp_path / "demo.yml"
    path.write_text(FILE)
    return path


def test_explain_shows_values_defaults_and_origins(file, capsys):
    assert main(["options", "explain", str(file), "--set", "runtime.tile=256", "--force_yml", "val:pbar=true"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["scale", "4", "1", "line", "3"] in lines
    assert ["tile", "256", "auto", "--set", "runtime.tile=256"] in lines
    assert ["pbar", "true", "false", "--force_yml", "val:pbar=true"] in lines
    assert ["print_freq", "100"] in lines
    assert ["suffix", "null", "line", "5"] in lines
    assert next(line for line in lines if line[:1] == ["lr"])[:2] == ["lr", "0.0001"]


def test_explain_changed_leaves_defaults_out(file, capsys):
    assert main(["options", "explain", "--changed", str(file)]) == 0
    out = capsys.readouterr().out
    assert "save_img" in out
    assert "print_freq" not in out
    assert "options differ from their defaults" in out


def test_explain_yaml_can_be_used_again(file, tmp_path, capsys):
    assert main(["options", "explain", "--yaml", str(file)]) == 0
    first = capsys.readouterr().out
    (tmp_path / "again.yml").write_text(first)
    assert main(["options", "explain", "--yaml", str(tmp_path / "again.yml")]) == 0
    again = capsys.readouterr().out
    assert yaml.safe_load(first) == yaml.safe_load(again)
    assert yaml.safe_load(first)["logger"]["print_freq"] == 100


def test_check_reports_every_file_and_exits_with_2(file, tmp_path, capsys):
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("nmae: a\nscale: [four]\n")
    assert main(["options", "check", str(file), str(wrong), str(tmp_path / "wrog.yml")]) == 2
    err = capsys.readouterr().err
    assert f"✓ {file}" in err
    assert f"✗ {wrong}: 3 mistakes" in err
    assert f"{wrong}:2: scale: expected a whole number; given: ['four']." in err
    assert "Did you mean 'wrong.yml'?" in err
    assert main(["options", "check", str(file)]) == 0


def test_a_mistake_is_one_message_without_traceback(tmp_path, capsys):
    assert main(["options", "explain", str(tmp_path / "none.yml")]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: no such file: ")
    assert "Traceback" not in err


@pytest.fixture(scope="module")
def schema(tmp_path_factory):
    path = tmp_path_factory.mktemp("schema") / "schema.json"
    assert main(["options", "schema", "-o", str(path)]) == 0
    return json.loads(path.read_text())


def test_schema_is_valid_and_describes_every_key(schema, capsys):
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == {*Options.model_fields, "extends"}
    assert all(field["description"] for field in schema["properties"].values())
    assert main(["options", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        ({}, True),
        ({"extends": ["a.yml", "b.yml"]}, True),
        ({"network_teacher": {"type": "SwinIR"}}, True),
        ({"network_d": None}, True),
        ({"network_d": {"type": "UNetDiscriminatorSN", "num_feat": 8}}, True),
        ({"network_d": {"type": "SwinIR", "upscale": 4}}, False),
        ({"network_teacher": {"type": "UNetDiscriminatorSN"}}, False),
        ({"network_g": {"type": "SwinIR", "upscale": 4, "windw_size": 8}}, False),
        ({"network_g": {"type": "SwinR"}}, False),
        ({"network_g": {"upscale": 4}}, False),
        ({"network_g": {"type": "MetaFormerRestorer", "mixers": "window"}}, True),
        ({"network_g": {"type": "MetaFormerRestorer", "mixers": ["window", {"type": "stripe", "num_heads": 2}]}}, True),
        ({"network_g": {"type": "MetaFormerRestorer", "mixers": ["windo"]}}, False),
        ({"network_g": {"type": "MetaFormerRestorer", "mixers": [["window"]]}}, False),
        ({"network_g": {"type": "MetaFormerRestorer", "mixers": [{"type": "window", "windw_size": 8}]}}, False),
        ({"network_g": {"type": "MetaFormerRestorer", "mixers": [{"type": "window", "dim": 60}]}}, False),
        ({"network_g": {"type": "UNetRestorer", "encoder": {"type": "convnext_atto", "pretrained": True}}}, True),
        ({"network_g": {"type": "UNetRestorer", "encoder": "timm:convnext_atto"}}, True),
        ({"network_g": {"type": "UNetRestorer", "encoder": "convnext_ato"}}, False),
        ({"network_g": {"type": "IQT", "encoder": {"type": "inception_block35", "pretrained": False}}}, True),
        ({"network_g": {"type": "IQT", "encoder": {"type": "inception_block35", "pretained": False}}}, False),
        ({"val": {"metrics": {"any": {"type": "pyiqa:musiq"}}}}, True),
        ({"train": {"optim_g": {"type": "Adam", "lr": 1}}}, True),
        ({"datasets": {"test_1": {"name": "a", "type": "PairedImageDataset", "dataroot_gt": ["x", "y"]}}}, True),
        ({"datasets": {"first": {"name": "a", "type": "PairedImageDataset"}}}, False),
        ({"datasets": {"train": {"batch_size_per_gpu": 0}}}, False),
        ({"train": {"total_iter": 5, "fft_opt": None}}, True),
        ({"train": {"total_iter": 5, "nonsense": 1}}, False),
        ({"path": {"pretrain_network_teacher": "a.pth"}}, True),
        ({"val": {"metrics": {"any": None}}}, True),
        ({"val": {"metrics": 5}}, False),
        ({"model_type": "SwinIRModel"}, True),
        ({"model_type": "SwinIRModle"}, False),
        ({"scale": "four"}, False),
        ({"sclae": 4}, False),
    ],
)
def test_schema_accepts_and_refuses(schema, change, fits):
    jsonschema = pytest.importorskip("jsonschema")
    document = {"name": "a", "network_g": {"type": "SwinIR", "upscale": 4}, **change}
    assert jsonschema.Draft202012Validator(schema).is_valid(document) == fits


def test_importing_options_imports_no_torch():
    code = "import sys, restore.options; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["False", "False"]


def test_shipped_files_fit_the_schema(schema):
    from jsonschema import Draft202012Validator

    from restore.options.source import read

    validator = Draft202012Validator(schema)
    files = sorted((Path(__file__).parents[2] / "options").glob("*.yml"))  # templates leave out what others say
    assert files
    assert [file.name for file in files if not validator.is_valid(read(file).values)] == []


NESTED = """
    name: nested
    network_g:
      type: MetaFormerRestorer
      mixers:
        - {type: window, window_size: 4}
        - stripe
    network_t:
      type: UNetRestorer
      mixer: gated_conv
      encoder: {type: conv_pyramid, widths: [8, 8]}
    datasets:
      train:
        name: two
        type: MultiTaskDataset
        batch_size_per_gpu: 1
        tasks: {sr: {type: DownsampledImageDataset, dataroot_gt: gt, scale: 2}}
"""


def test_explain_shows_the_arguments_of_components_inside_others(tmp_path):
    from restore.options.explain import NO_DEFAULT, explain
    from restore.options.loading import resolve
    from restore.options.source import read

    file = tmp_path / "nested.yml"
    file.write_text(textwrap.dedent(NESTED).lstrip("\n"))
    tree = read(file)
    rows = {row.path: row for row in explain(resolve(tree, is_train=False), tree)}

    def shown(path: str) -> tuple:
        row = rows[path]
        return row.value, row.default, row.origin and row.origin.line

    assert shown("network_g.mixers.0.type") == ("window", "window", 5)
    assert shown("network_g.mixers.0.window_size") == (4, 8, 5)
    assert shown("network_g.mixers.0.num_heads") == (6, 6, None)
    assert shown("network_g.mixers.1.type") == ("stripe", "shifted_window", 6)
    assert shown("network_g.mixers.1.window_size") == ([6, 24], [6, 24], None)
    assert shown("network_t.mixer.type") == ("gated_conv", "gated_conv", 9)
    assert shown("network_t.mixer.kernel_size") == (7, 7, None)
    assert shown("network_t.encoder.type") == ("conv_pyramid", "convnext_atto", 10)
    assert shown("network_t.encoder.widths")[::2] == ([8, 8], 10)
    assert shown("datasets.train.tasks.sr.type") == ("DownsampledImageDataset", NO_DEFAULT, 16)
    assert shown("datasets.train.tasks.sr.scale")[0] == 2
    assert not rows["network_g.mixers.0.type"].differs
    assert rows["network_g.mixers.0.window_size"].differs
    assert not {"network_g.mixers", "network_g.mixers.0", "network_g.mixers.0.dim", "network_t.encoder.in_chans"} & {
        *rows
    }


@pytest.mark.parametrize(
    ("mixers", "differing"),
    [
        ("[window, shifted_window]", []),
        ("[window]", ["mixers.0.type"]),
        ("window", ["mixers.type"]),
        ("[window, {type: shifted_window, num_heads: 3}]", ["mixers.1.num_heads"]),
    ],
)
def test_explain_changed_of_components_inside_others(tmp_path, capsys, mixers, differing):
    from restore.options.explain import explain
    from restore.options.loading import resolve
    from restore.options.source import read

    file = tmp_path / "nested.yml"
    file.write_text(f"name: a\nnetwork_g: {{type: MetaFormerRestorer, mixers: {mixers}}}\n")
    tree = read(file)
    changed = [row.path for row in explain(resolve(tree, is_train=False), tree) if row.differs]
    assert changed == ["name", *(f"network_g.{path}" for path in ("type", *differing))]
    assert main(["options", "explain", "--changed", str(file)]) == 0
