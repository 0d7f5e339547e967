"""What pyproject.toml cannot say: option files and dataset cards travel inside the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PACKAGED = ("options", "datasets")  # folders of a checkout that `restore.packaged` finds again


class BuildWithFiles(build_py):
    """Copies the folders in PACKAGED to `restore/packaged_files`."""

    def run(self):
        super().run()
        if self.editable_mode:  # a checkout is its own source
            return
        for source, copy in self._copies():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)

    def get_outputs(self, include_bytecode=True):
        return [*super().get_outputs(include_bytecode), *(str(copy) for _, copy in self._copies())]

    def _copies(self):
        target = Path(self.build_lib) / "restore" / "packaged_files"
        for folder in PACKAGED:
            for source in sorted((ROOT / folder).rglob("*.yml")):
                yield source, target / source.relative_to(ROOT)


setup(cmdclass={"build_py": BuildWithFiles})
