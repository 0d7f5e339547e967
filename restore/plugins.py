"""Components of your own, from a Python file beside an option file or a folder of images.

    plugins: my_nets.py                                          # in an option file, relative to it
    restore run -m net_g_5000.pth --plugin my_nets.py -i photos  # on the command line
    restore.load_plugin("my_nets.py")                            # in Python

The file is run once, and registers what it defines (`@NETWORKS.add()`, see CONTRIBUTING.md). It is run only where a
person named it in one of these three ways: a weights file names none.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from pathlib import Path

from restore.errors import OptionsError
from restore.files import expanded

__all__ = ["load_plugin"]

_LOADED: set[Path] = set()


def load_plugin(path: str | Path) -> None:
    """Run a Python file that registers components, unless it was run before.

    Args:
        path: the file; relative to the working directory.

    Raises:
        OptionsError: there is no such file, or it fails: with the line and what went wrong.
    """
    given, file = path, expanded(path).resolve()
    if file in _LOADED:
        return
    if file.suffix != ".py" or not file.is_file():
        raise OptionsError(f"the plugin '{given}' is not a Python file that exists.")
    name = f"restore_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None, "it ends in .py"
    assert spec.loader is not None, "it is a file"
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # classes are looked up there when they are copied to other processes
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        where = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)]
        line = getattr(error, "lineno", None) or (where[-1] if where else None)
        at = f", line {line}" if line else ""
        raise OptionsError(f"the plugin '{given}' failed{at}: {type(error).__name__}: {error}") from error
    _LOADED.add(file)
