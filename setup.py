"""What pyproject.toml cannot say: option files and dataset cards travel in the package; a library is compiled."""

import os
import shutil
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PACKAGED = ("options", "datasets")  # folders of a checkout that `restore.packaged` finds again
SOURCES = {  # of each library
    "attention": Path("restore/layers/compiled/source"),
    "pixels": Path("restore/images/source"),
}


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


class BuildLibrary(build_ext):
    """Builds a plain shared library, which every version of Python loads."""

    def get_ext_filename(self, fullname):
        return str(Path(*fullname.split("."))) + ".so"


class WheelOfLibrary(bdist_wheel):
    """A wheel for one platform and any Python; for any platform where nothing is compiled."""

    def get_tag(self):
        tag = super().get_tag()
        return tag if self.root_is_pure else ("py3", "none", tag[2])


def libraries():
    """Attention in windows and loops over pixels, where there is a compiler; `RESTORE_COMPILED=0` leaves them out."""
    if os.environ.get("RESTORE_COMPILED") == "0" or os.name == "nt":
        return []
    return [library(name, folder) for name, folder in SOURCES.items()]


def library(name, folder):
    """A library of all C files in a folder."""
    sources, headers = (sorted(map(str, folder.glob(f"*.{kind}"))) for kind in ("c", "[hi]*"))
    flags = ["-std=gnu11", "-O3", "-fvisibility=hidden"]
    if name == "pixels":  # so that its results are the same on every processor
        flags += ["-ffp-contract=off", "-fno-math-errno"]
    return Extension(".".join((*folder.parts, name)), sources, depends=headers, extra_compile_args=flags, optional=True)


setup(
    cmdclass={"build_py": BuildWithFiles, "build_ext": BuildLibrary, "bdist_wheel": WheelOfLibrary},
    ext_modules=libraries(),
)
