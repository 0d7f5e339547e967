#!/usr/bin/env bash
# Builds the compiled library with the sanitizers of addresses and undefined behaviour, and runs its tests with it.
# Usage: bash scripts/sanitize.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
source=restore/layers/compiled/source
library=$(mktemp -d)/attention.so
trap 'rm -r "$(dirname "$library")"' EXIT
flags=(-std=gnu11 -O1 -g -fPIC -shared -fvisibility=hidden -fno-omit-frame-pointer)
gcc "${flags[@]}" -fsanitize=address,undefined -fno-sanitize-recover=undefined -Wall -Wextra -o "$library" $source/*.c
# Python is not built with them: they are loaded first, and what it never frees is not reported.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0 RESTORE_COMPILED_LIBRARY="$library"
python -m pytest -p no:cacheprovider tests/layers/test_compiled_attention.py tests/layers/test_compiled_branch.py "$@"
