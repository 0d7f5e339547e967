#!/usr/bin/env bash
# Installs the package with what the tests need and runs the suite.
# Usage: bash scripts/test.sh [arguments of pytest]
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh" test
exec python -m pytest "$@"
