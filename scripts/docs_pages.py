"""Pages of the site that are made of what there is (a hook of mkdocs): the README, the options, the files beside docs/.

mkdocs build --strict        the site, in site/
mkdocs serve                 the same, at http://127.0.0.1:8000/, and again after every change
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
BESIDE = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md",
          "SECURITY.md": "security.md", "options/README.md": "option_files.md"}  # fmt: skip
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_config(config: Any) -> Any:
    """A page that the navigation forgets is found under "More"."""
    named = set(re.findall(r"[\w/]+\.(?:md|ipynb)", str(config.nav)))
    docs = Path(config.docs_dir)
    pages = [path.relative_to(docs).as_posix() for path in sorted(docs.rglob("*.md"))]
    if more := [page for page in pages if page not in named]:
        config.nav.append({"More": more})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made."""
    from mkdocs.structure.files import File

    for source, name in BESIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, name, content=linked(text, ROOT / source)))
    files.append(File.generated(config, "reference/options.md", content=options_page()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Links of pages in docs/ that lead to files beside it."""
    source = Path(config.docs_dir) / page.file.src_uri
    return linked(markdown, source) if source.is_file() else markdown


def linked(text: str, source: Path) -> str:
    """The text with links that hold on the site: to its pages, or, for what is none, the bare words."""
    docs = ROOT / "docs"
    here = docs if source.name in {Path(each).name for each in BESIDE} and docs not in source.parents else source.parent

    def replace(found: re.Match[str]) -> str:
        target, anchor = found[1], found[2] or ""
        if re.match(r"[a-z]+:", target):
            return found[0]
        path = (source.parent / target).resolve()
        if docs in path.parents:
            page = path
        elif path.is_relative_to(ROOT) and path.relative_to(ROOT).as_posix() in BESIDE:
            page = docs / BESIDE[path.relative_to(ROOT).as_posix()]
        elif path.is_relative_to(ROOT) and f"{path.relative_to(ROOT).as_posix()}/README.md" in BESIDE:
            page = docs / BESIDE[f"{path.relative_to(ROOT).as_posix()}/README.md"]
        else:
            return f"]({BARE})"
        up = len(here.relative_to(docs).parts) * "../"
        return f"]({up}{page.relative_to(docs).as_posix()}{anchor})"

    text = LINK.sub(replace, text)
    return re.sub(rf"\[([^\]]*)\]\({BARE}\)", r"\1", text)


BARE = "nothing:here"


def options_page() -> str:
    """Every key of an option file, a table for each section."""
    from restore.options import Options

    parts = ["# Option files: every key", ""]
    parts.append(
        "Made from the schema. `restore options schema` prints it for editors, with the arguments of every component; "
        "`restore options explain FILE` says what a file adds up to."
    )
    parts += list(_section(Options, ""))
    return "\n".join(parts) + "\n"


def _section(section: Any, path: str) -> Iterator[str]:
    from restore.signature import model_in

    yield f"\n## {f'`{path}`' if path else 'At the top'}\n"
    if path:
        yield inspect.cleandoc(section.__doc__ or "").splitlines()[0] + "\n"
    yield "| key | type | default | |\n|---|---|---|---|"
    inside = []
    for name, field in section.model_fields.items():
        below = model_in(field.annotation)
        if below is not None:
            inside.append((below, f"{path}.{name}".lstrip(".")))
        default = "required" if field.is_required() else "" if below else f"`{_default(field)}`"
        words = f"see `{inside[-1][1]}`" if below else f"`{_type(field.annotation)}`"
        yield f"| `{name}` | {_cell(words)} | {_cell(default)} | {_cell(field.description or '')} |"
    for pattern, (_, description) in section.patterns.items() if hasattr(section, "patterns") else ():
        yield f"| `{_cell(pattern)}` | | | {_cell(description)} |"
    for below, place in inside:
        yield from _section(below, place)


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return (
        str(value) if isinstance(value, (int, float, str)) else "{}" if not isinstance(value, (list, tuple)) else "[]"
    )


def _type(annotation: Any) -> str:
    """An annotation in the words of YAML."""
    if hasattr(annotation, "__metadata__"):  # what checks it is no word of its
        return _type(annotation.__origin__)
    names = {"NoneType": "null", "str": "text", "bool": "true or false", "int": "whole number", "float": "number"}
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return " or ".join(_type(each) for each in arguments)
    if origin in (list, tuple, Sequence):
        return f"list of {_type(arguments[0])}" if arguments else "list"
    if origin in (dict, Mapping):
        return "block"
    if origin is Literal:
        return ", ".join(map(str, arguments))
    name = getattr(annotation, "__name__", str(annotation))
    return names.get(name, name)


def _cell(text: object) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
