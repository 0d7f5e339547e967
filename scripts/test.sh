#!/usr/bin/env bash
# Installs the package with what the tests need and runs the suite.
# Usage: bash scripts/test.sh [arguments of pytest]
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh" test
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # one process for each core, one thread for each process
exec python -m pytest --numprocesses "${NUM_PROCESSES:-auto}" "$@"
