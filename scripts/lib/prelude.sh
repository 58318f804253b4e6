# Shared by the scripts beside it: paths, progress, and the choice of a Rust. Sourced, never run.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# What is built or fetched once for this machine and is no part of the tree.
# shellcheck disable=SC2034
cache=${LB_CACHE:-$HOME/.cache/lb-agent}
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$root/$target
# The lowest Rust the workspace takes, from the only place that states it.
rust_min=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")

say() { printf '%s\n' "$*" >&2; }
die() { say "${0##*/}: $*"; exit 1; }

# step NAME COMMAND…: runs the command and prints one line with the seconds it took. Its output is shown when it
# fails, or as it comes with LB_VERBOSE=1. (The command is one program: bash's errexit does not reach into a function
# that is called in a condition, as this one is.)
step() {
    local name=$1 start=$SECONDS log rc=0
    shift
    if [[ -n ${LB_VERBOSE:-} ]]; then
        say "== $name"
        "$@" >&2 || rc=$?
    else
        log=$(mktemp)
        [[ ! -t 2 ]] || printf '%-44s    …\r' "$name" >&2
        "$@" >"$log" 2>&1 || rc=$?
        if ((rc != 0)); then cat "$log" >&2; fi
        rm -f "$log"
    fi
    printf '%-44s %4d s%s\n' "$name" $((SECONDS - start)) "$( ((rc == 0)) || echo "  FAILED ($rc)")" >&2
    return "$rc"
}

# at_least A B: version A is B or newer.
at_least() { [[ $(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1) == "$2" ]]; }

# Puts a cargo and rustc of at least rust_min first in PATH: the one already there (rustup's), else Debian's.
use_rust() {
    local dir have
    for dir in "" "${CARGO_HOME:-$HOME/.cargo}/bin:" "/usr/bin:"; do
        have=$(PATH=$dir$PATH rustc --version 2>/dev/null | awk '{print $2}') || continue
        PATH=$dir$PATH command -v cargo >/dev/null || continue
        if at_least "${have%%-*}" "$rust_min"; then
            PATH=$dir$PATH
            export PATH
            return 0
        fi
    done
    return 1
}
