"""Files for those who work on the project: workflows, hooks, citation, lowest versions."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import restore

ROOT = Path(__file__).parent.parent


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / ".github" / "workflows").glob("*.yml")))
def test_workflows_run_files_that_exist(name):
    jobs = read(f".github/workflows/{name}")["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    files = [word for command in commands for word in command.split() if re.match(r"(scripts|tests)/", word)]
    assert files
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_hooks_and_tests_use_the_same_ruff():
    (pinned,) = re.findall(r'"ruff==([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (hook,) = read(".pre-commit-config.yaml")["repos"]
    assert hook["rev"] == f"v{pinned}"


def test_the_citation_is_of_this_version():
    citation = read("CITATION.cff")
    assert citation["version"] == restore.__version__
    assert citation["license"] == "Apache-2.0"


def test_every_requirement_has_a_lowest_version():
    script = ROOT / "scripts" / "lowest_versions.py"
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    constraints = done.stdout.split()
    assert len(constraints) >= 15
    assert any(each.startswith("torch==2.") for each in constraints)
    spec = importlib.util.spec_from_file_location("lowest_versions", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.lowest("ray[data] >= 2.60") == "ray==2.60"
    assert module.lowest("anything") is None


def test_templates_ask_for_something():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"]
        assert [field["id"] for field in form["body"]]


def test_the_chinese_readme_gives_the_commands_of_the_english_one():
    english = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "README.zh.md").read_text(encoding="utf-8"), re.DOTALL)
    commands = [line.partition("    #")[0].strip() for block in blocks for line in block.splitlines()]
    assert len(commands) >= 9
    assert [command for command in commands if command not in english] == []


def test_extras():
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    wanted = {"all", "iqa", "foreign", "export", "video", "ray", "serve", "hub", "heif", "sets", "optimizers", "dev"}
    assert wanted <= extras.keys()
    (everything,) = extras["all"]
    inside = set(everything.partition("[")[2].rstrip("]").split(","))
    assert wanted - {"all", "iqa", "dev"} <= inside
    assert not any("pyiqa" in each for name in inside for each in extras[name])
