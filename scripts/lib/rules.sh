# The rules of the tree that no compiler checks, for scripts/check. Sourced, never run.
# shellcheck shell=bash
#
# A rule is a function `rule_NAME`: it reads the tree in the current directory and prints a line for each violation.
# `break_NAME` makes one violation in the current directory, so that the self-test sees each rule fail.

# shellcheck disable=SC2034 # read by scripts/check
rules=(kube_edge aya_edge aya_ebpf_edge unsafe_edge pure_crates one_version workspace_versions no_mod_rs no_allow
    no_conflict no_stub no_binary no_machine)

# files PATHSPEC…: what is committed or would be.
files() { git ls-files --cached --others --exclude-standard --deduplicate -- "$@"; }

# code REGEX ALLOWED PATHSPEC…: Rust lines that match outside comments, in files whose path does not match ALLOWED.
code() {
    local regex=$1 allowed=$2
    shift 2
    files "$@" | { grep '\.rs$' || true; } | { grep -v -E "$allowed" || true; } |
        { xargs -r -d '\n' grep -n -H -s -E "$regex" || true; } | { grep -v -E '^[^:]*:[0-9]+:[[:space:]]*//' || true; }
}
crates=(conntrack maglev policy lb-ebpf lb-agent)

# Kubernetes' types stop at lb-agent/src/k8s.
rule_kube_edge() { code '\b(kube|k8s_openapi)(::|;)' '^lb-agent/src/k8s(\.rs|/)' "${crates[@]}"; }
break_kube_edge() { echo 'use k8s_openapi::api::core::v1::Service;' >lb-agent/src/select.rs; }

# aya's types stop at lb-agent/src/maps and datapath.
rule_aya_edge() { code '\baya(_obj|_log)?(::|;)' '^lb-agent/src/(maps|datapath)(\.rs|/)' "${crates[@]}"; }
break_aya_edge() { echo 'fn f() { aya::Ebpf::load(&[]); }' >lb-agent/src/plan.rs; }

# aya-ebpf's types stop at lb-ebpf/src/programs.
rule_aya_ebpf_edge() { code '\baya_ebpf\b' '^lb-ebpf/src/(programs(\.rs|/)|main\.rs$)' "${crates[@]}"; }
break_aya_ebpf_edge() { echo 'use aya_ebpf::helpers;' >lb-ebpf/src/pipeline.rs; }

# Unsafe code is where the kernel is: map values, datapath, programs; and in the tests' namespaces.
rule_unsafe_edge() { code '\bunsafe\b' '^(lb-agent/src/(maps/raw\.rs|datapath(\.rs|/))|lb-ebpf/src/programs(\.rs|/)|tests/|bench/src/node/program\.rs)' '*.rs'; }
break_unsafe_edge() { echo 'fn f() { unsafe { g() } }' >lb-agent/src/maps/kernel.rs; }

# dependencies FILE [dev]: lines `NAME VALUE` of a Cargo.toml's dependency sections, development ones only with dev.
dependencies() {
    awk -v dev="${2:-}" '
        /^\[/ {
            inside = ($0 ~ /dependencies(\]|\.)/ && $0 !~ /^\[workspace/ && (dev != "" || $0 !~ /dev-dependencies/))
            if (inside && match($0, /dependencies\./)) { name = substr($0, RSTART + 13); sub(/\]$/, "", name); print name, $0; inside = 0 }
            next
        }
        inside && /^[A-Za-z0-9_-]/ { name = $0; sub(/[ .=].*/, "", name); print name, $0 }' "$1"
}

# The crates that kernel and agent share depend on zerocopy alone, never on each other; what only the agent's feature
# takes is optional.
rule_pure_crates() {
    local crate
    for crate in conntrack maglev policy; do
        dependencies "$crate/Cargo.toml" | awk -v c="$crate" '
            $1 != "zerocopy" && (!/optional = true/ || $1 ~ /^(conntrack|maglev|policy)$/) {print c "/Cargo.toml: depends on " $1}'
    done
}
break_pure_crates() { printf '[dependencies]\nconntrack.workspace = true\n' >>policy/Cargo.toml; }

# The lock holds one version of everything that the workspace names.
rule_one_version() {
    local name
    sed -n '/^\[workspace.dependencies\]/,/^\[/s/^\([A-Za-z0-9_-]*\) *=.*/\1/p' Cargo.toml | while read -r name; do
        grep -A1 -x "name = \"$name\"" Cargo.lock | sed -n 's/^version = //p' | sort -u | tr '\n' ' ' |
            awk -v n="$name" 'NF > 1 {print "Cargo.lock: " n " in versions " $0}'
    done
}
break_one_version() { printf '[[package]]\nname = "zerocopy"\nversion = "0.1.0"\n' >>Cargo.lock; }

# A member states no version of its own. (The fuzz targets are another workspace.)
rule_workspace_versions() {
    local file
    files '*/Cargo.toml' ':!tests/fuzz' | while read -r file; do
        dependencies "$file" dev | grep -v -E 'workspace *= *true' | sed "s|^[^ ]* |$file: |" || true
    done
}
break_workspace_versions() { printf '[dev-dependencies]\ninsta = "1"\n' >>lb-agent/Cargo.toml; }

rule_no_mod_rs() { files '*/mod.rs' 'mod.rs'; }
break_no_mod_rs() { : >lb-agent/src/mod.rs; }

# A lint is expected with its reason, never allowed.
rule_no_allow() { code '#!?\[(cfg_attr\(.*)?allow\(' '^$' '*.rs'; }
break_no_allow() { echo '#[allow(dead_code)]' >tests/src/case.rs; }

rule_no_conflict() { files | xargs -r -d '\n' grep -n -H -s -I -E '^(<{7}|>{7}) ' || true; }
break_no_conflict() { printf '%s HEAD\n' '<<<<<<<' >Cargo.toml; }

rule_no_stub() { code '\b(todo|unimplemented)!' '^$' '*.rs'; files '*.rs' | xargs -r grep -n -H -s -i 'placeholder\.$' || true; }
break_no_stub() { echo 'fn f() { todo!() }' >maglev/src/fill.rs; }

# Nothing built or fetched is committed. (What a fuzzer found is data.)
rule_no_binary() { files ':!*/corpus/*' | xargs -r -d '\n' grep -s -I -L '' | while read -r f; do [[ ! -s $f ]] || echo "$f: binary"; done; }
break_no_binary() { printf '\177ELF\0\0' >lb-ebpf/object; }

# No path of a machine, and no package registry's address: those come from the machine's own configuration.
rule_no_machine() {
    local names='(crates[.]io|npmjs[.](com|org)|pypi[.]org|pythonhosted[.]org|proxy[.]golang[.]org|(deb|security|snapshot)[.]debian[.]org)'
    files ':!*Cargo.lock' ':!*go.sum' |
        xargs -r -d '\n' grep -n -H -s -I -E "(^|[^[:alnum:]_.-])/wor[k]/|/root/[.](cache|cargo|rustup)|$names" || true
}
break_no_machine() { printf 'see /%s/notes\n' work >README.md; }

# Not a rule: lines `LINES FILE` of the files that are due to be split.
long_files() { files '*.rs' 'scripts/*' 'tests/vm/*' | xargs -r -d '\n' wc -l 2>/dev/null | awk '$1 > 400 && $2 != "total"'; }

# A tree without violations, for the self-test.
clean_tree() {
    git init -q .
    mkdir -p {conntrack,maglev,policy,lb-ebpf,lb-agent,tests}/src lb-agent/src/{k8s,maps,datapath} lb-ebpf/src/programs
    printf '[workspace.dependencies]\nzerocopy = "0.8"\n' >Cargo.toml
    printf '[[package]]\nname = "zerocopy"\nversion = "0.8.1"\n' >Cargo.lock
    for crate in conntrack maglev policy lb-ebpf lb-agent tests; do
        printf '[package]\nname = "x"\n[dependencies]\nzerocopy.workspace = true\n' >$crate/Cargo.toml
        printf '//! Names aya:: and unsafe in a comment.\nfn main() {}\n' >$crate/src/lib.rs
    done
    echo 'use k8s_openapi::List;' >lb-agent/src/k8s/service.rs
    echo 'use aya::maps::Array;' >lb-agent/src/maps/kernel.rs
    echo 'unsafe impl Pod for Raw {}' >lb-agent/src/maps/raw.rs
    echo 'use aya_ebpf::helpers;' >lb-ebpf/src/programs/maps.rs
    echo '#[expect(dead_code, reason = "why")]' >lb-agent/src/plan.rs
}
