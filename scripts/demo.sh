#!/usr/bin/env bash
# Installs the package and restores the demo photographs; prints a table and writes results/*/report.html.
# Usage: bash scripts/demo.sh [arguments of restore/test.py]
. "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
exec python restore/test.py -opt options/swinir_x4.yml "$@"
