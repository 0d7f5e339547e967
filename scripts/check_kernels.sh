#!/usr/bin/env bash
# Compares the compiled library with loops in double: every kind of code that this processor runs, with the sanitizers of
# addresses and undefined behaviour; and the code for 64-bit Arm under emulation, where its compiler and qemu are there
# (Debian: gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user).
# Usage: bash scripts/check_kernels.sh [native|arm]
set -euo pipefail
cd "$(dirname "$0")/.."
program=$(mktemp -d)/check
trap 'rm -r "$(dirname "$program")"' EXIT
sources=(scripts/check_kernels.c restore/layers/compiled/source/*.c -lm)
flags=(-std=gnu11 -O1 -g -Wall -Wextra -Werror)
if [ "${1:-native}" = native ]; then
    ${CC:-cc} "${flags[@]}" -fsanitize=address,undefined -fno-sanitize-recover=undefined -o "$program" "${sources[@]}"
    most=$("$program" most)
    for processor in $([ "$most" -lt 2 ] && echo "$most" || seq 2 "$most"); do "$program" "$processor"; done
fi
if [ "${1:-arm}" = arm ]; then
    if ! command -v aarch64-linux-gnu-gcc qemu-aarch64 >/dev/null; then
        echo "64-bit Arm: left out, aarch64-linux-gnu-gcc or qemu-aarch64 is not installed"
        exit 0
    fi
    aarch64-linux-gnu-gcc "${flags[@]}" -static -o "$program" "${sources[@]}"
    qemu-aarch64 "$program"
fi
