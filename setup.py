"""Packaging: `pip install .` installs the package `restore` and the command `restore`."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "restore/__init__.py").read_text(), re.MULTILINE).group(1)

OPTIMIZERS = ["pytorch-optimizer>=3.1"]  # SOAP and many more by name

TEST = [
    "pytest>=8",
    "pytest-timeout>=2.2",
    "pytest-xdist>=3.5",
    "hypothesis>=6.100",
    "import-linter>=2.6",
    "ruff>=0.9",
    "mypy==2.4.1",
    "types-PyYAML>=6.0",
    "jsonschema>=4.20",
    *OPTIMIZERS,
]

setup(
    name="restore-toolkit",
    version=VERSION,
    description="Image restoration and image quality transformers in one pipeline that runs BasicSR option files.",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["restore", "restore.*"]),
    package_data={
        "restore": [
            "py.typed",
            "zoo/cards/*.yml",
            "zoo/weights/*.safetensors",
            "**/*.html",
            "**/*.css",
            "**/*.js",
            "**/*.npz",
            "**/NOTICE.md",
            "**/*.yml",
        ]
    },
    install_requires=[
        "torch>=2.4",
        "torchvision>=0.19",
        "timm>=1.0.9",
        "numpy>=1.26",
        "scipy>=1.11",
        "opencv-python-headless>=4.8",
        "pillow>=10.3",
        "tifffile>=2023.7.18",
        "scikit-image>=0.22",
        "pyiqa>=0.1.10",
        "lmdb>=1.4",
        "tensorboard>=2.14",
        "PyYAML>=6.0",
        "pydantic>=2.7",
        "rich>=13.7",
        "safetensors>=0.4.3",
        "filelock>=3.12",  # a pack of images is written by one process
        "Jinja2>=3.1",
    ],
    extras_require={
        "test": TEST,
        "foreign": ["spandrel>=0.4"],
        "export": ["onnx>=1.16", "onnxscript>=0.2", "onnxruntime>=1.18"],
        "video": ["av>=17.1"],
        "ray": ["ray[data]>=2.60"],
        "sets": ["torch-fidelity>=0.3"],
        "keras": ["h5py>=3.8"],
        "matlab": ["h5py>=3.8"],
        "optimizers": OPTIMIZERS,
    },
    entry_points={"console_scripts": ["restore=restore.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
