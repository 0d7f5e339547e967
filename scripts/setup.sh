# Sourced by demo.sh and test.sh: a virtual environment (the active one, or .venv made here) with the package in it.
# Usage: . scripts/setup.sh [EXTRA]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${VIRTUAL_ENV:-}" ]; then
  [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
  . .venv/bin/activate
fi
python -m pip install --quiet --upgrade pip
python -m pip install --quiet --editable ".${1:+[$1]}"
# Some optional packages bring a second OpenCV, which overwrites the first: one is kept.
if python -m pip show --quiet opencv-python-headless 2>/dev/null; then
  python -m pip uninstall --quiet --yes opencv-python-headless
  python -m pip install --quiet --force-reinstall --no-deps "opencv-python==$(python -m pip show opencv-python | sed -n 's/^Version: //p')"
fi
