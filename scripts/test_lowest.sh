#!/usr/bin/env bash
# Runs the suite with the lowest versions of its requirements that pyproject.toml allows, in .venv-lowest.
# Usage: bash scripts/test_lowest.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
[ -x .venv-lowest/bin/python ] || "${PYTHON:-python3}" -m venv .venv-lowest
. .venv-lowest/bin/activate
python scripts/lowest_versions.py > .venv-lowest/constraints.txt
python -m pip install --quiet --constraint .venv-lowest/constraints.txt --editable ".[dev]"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
exec python -m pytest --numprocesses "${NUM_PROCESSES:-auto}" "$@"
