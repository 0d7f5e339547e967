#!/usr/bin/env bash
# Builds the compiled libraries with the sanitizers of addresses and undefined behaviour, and runs their tests with them.
# Usage: bash scripts/sanitize.sh [arguments of pytest]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
flags=(-std=gnu11 -O1 -g -fPIC -shared -fvisibility=hidden -fno-omit-frame-pointer -Wall -Wextra)
flags+=(-fsanitize=address,undefined -fno-sanitize-recover=undefined)
gcc "${flags[@]}" -o "$folder/attention.so" restore/layers/compiled/source/*.c
gcc "${flags[@]}" -ffp-contract=off -o "$folder/pixels.so" restore/images/source/*.c
# Python is not built with them: they are loaded first, and what it never frees is not reported.
export LD_PRELOAD="$(gcc -print-file-name=libasan.so):$(gcc -print-file-name=libubsan.so)"
export ASAN_OPTIONS=detect_leaks=0 RESTORE_COMPILED_LIBRARY="$folder/attention.so"
export RESTORE_PIXELS_LIBRARY="$folder/pixels.so"
python -m pytest -p no:cacheprovider tests/layers/test_compiled_attention.py tests/layers/test_compiled_branch.py \
    tests/layers/test_compiled_convolution.py tests/layers/test_compiled_gate.py \
    tests/images/test_compiled.py "$@"
