# The tiers of scripts/test: a function `tier_NAME` each. Sourced, never run.
# shellcheck shell=bash disable=SC2154

logs=$target/test
# The same selection everywhere, so that the tiers share one build. What measures is no test.
selection=(--workspace --exclude lb-bench)

# close TIER PASSED FAILED [WHY]: the closing line, and the tier's exit status.
close() {
    local line="$1: $2 passed"
    (($3 == 0)) || line+=", $3 failed"
    (($2 + $3 > 0)) || line+=", no test ran"
    line+="${4:+, $4} ($SECONDS s)"
    echo "$line" | tee "$logs/$1.closing"
    (($3 == 0 && $2 > 0)) && [[ -z ${4:-} ]]
}

# harness LOG: keeps the output of test binaries; shows a line for each result as it comes, the report of a failed
# test, and what the verifier's tests print.
harness() {
    tee "$1" | awk '
        /^ *(Running|Doc-tests) / { name = $0; sub(/^ */, "", name); sub(/ \(.*/, "", name) }
        /^failures:$/ { shown = 1 }
        /^---- .* stdout ----$/ && name ~ /verifier/ { shown = 1 }
        shown || /^error/ { if ($0 != "") print "  | " $0 }
        /^test result: / {
            shown = 0
            if ($4 + $6 > 0) { printf "  %-42s %s passed, %s failed\n", name, $4, $6; fflush() }
        }' >&2
}
passed_in() { awk '/^test result: / {n += $4} END {print n + 0}' "$1"; }
# A test binary that started and has no result has died: one failure more.
failed_in() { awk '/^ *(Running|Doc-tests) / {n++} /^test result: / {n += $6 - 1} END {print n + 0}' "$1"; }

# Fills $logs/binaries with the test executables of lb-tests under their targets' names (NAME-unit for the tests inside
# a library or program), and with the programs that they start.
gather_binaries() {
    local line name program
    step "build the tests" cargo test -q "${selection[@]}" --no-run
    rm -rf "$logs/binaries"
    mkdir -p "$logs/binaries"
    cargo test "${selection[@]}" --no-run --message-format=json 2>/dev/null |
        grep '#lb-tests@.*"profile":{[^}]*"test":true}.*"executable":"' >"$logs/executables" ||
        die "lb-tests has no test executable"
    while read -r line; do
        name=$(sed -E 's/.*"target":\{"kind":\["([^"]*)"\][^}]*"name":"([^"]*)".*/\2-\1/; s/-test$//; s/-(lib|bin)$/-unit/' <<<"$line")
        line=${line##*\"executable\":\"}
        ln -s "${line%%\"*}" "$logs/binaries/$name"
    done <"$logs/executables"
    for program in lb-agent lbctl lb-lab; do
        [[ ! -x $target/release/$program ]] || ln -s "$target/release/$program" "$logs/binaries/$program"
    done
}

tier_unit() {
    local why=''
    "$root/scripts/setup" build check
    use_rust || die "no Rust of $rust_min or newer"
    "$root/scripts/check" || why="scripts/check failed"
    step "build the tests" cargo test -q "${selection[@]}" --no-run || { close unit 0 1 "the build failed${why:+, $why}"; return; }
    cargo test "${selection[@]}" --no-fail-fast 2>&1 | harness "$logs/unit.log" || true
    close unit "$(passed_in "$logs/unit.log")" "$(failed_in "$logs/unit.log")" "$why"
}

tier_root() {
    local name
    ((EUID == 0)) || { close root 0 1 "needs root"; return; }
    "$root/scripts/setup" root
    "$root/scripts/build"
    use_rust || die "no Rust of $rust_min or newer"
    gather_binaries
    export LB_BIN_DIR=$target/release
    cd "$root/tests" || return
    for name in "$logs"/binaries/*; do
        name=${name##*/}
        case $name in lb-agent | lbctl | lb-lab) continue ;; esac
        # None takes minutes: one that hangs is ended, and counts as failed.
        { echo "Running $name"; timeout -k 10 1200 "$logs/binaries/$name" --ignored --show-output || true; } 2>&1
    done | harness "$logs/root.log"
    close root "$(passed_in "$logs/root.log")" "$(failed_in "$logs/root.log")"
}

tier_vm() {
    "$root/scripts/setup" vm
    "$root/scripts/build"
    use_rust || die "no Rust of $rust_min or newer"
    gather_binaries
    "$root/tests/vm/matrix" "$logs/binaries" | tee "$logs/vm.closing"
}
