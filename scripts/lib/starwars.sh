# The steps of scripts/demo, a function `step_NAME` each: prints what it saw, and fails unless it saw what it is there for.
# Each runs in a subshell with errexit. Sourced, never run.
# shellcheck shell=bash disable=SC2154

# As tests/topologies/starwars.yaml has them.
vip4=10.96.0.66 vip6=fd00:10:96::66
comlink4=10.96.0.77:53 comlink6='[fd00:10:96::77]:53'
nodes=(node-a node-b)
clients=(tiefighter xwing)
client_addresses='10.244.1.21 10.244.1.22 fd00:10:244:1::21 fd00:10:244:1::22'
server_addresses='10.244.2.11 10.244.2.12 fd00:10:244:2::11 fd00:10:244:2::12'
service_addresses='10.96.0.66 10.96.0.77 fd00:10:96::66 fd00:10:96::77'
landing=/v1/request-landing
# The rule that the demo adds, one for each family and node: without any, conntrack records nothing.
rule=(FORWARD -m conntrack --ctstate "NEW,ESTABLISHED" -j ACCEPT)

# The descriptors of this script are not for those who outlive it.
lab() { "$LB_BIN_DIR/lb-lab" "$@" 7>&- 8>&- 9>&-; }
on() { lab exec "$1" -- "${@:2}"; }
# The prefix of all that belongs to the lab; nothing when there is none.
lab_id() { lab status 2>/dev/null | sed -n 's/^  "id": "\(.*\)",$/\1/p'; }
fail() {
    echo "FAILED: $*"
    exit 1
}

step_up() {
    local node pid
    lab up "$root/tests/topologies/starwars.yaml" >/dev/null
    for node in "${nodes[@]}"; do
        pid=$(agent_pid "$node")
        echo "\$ $(tr '\0' ' ' <"/proc/$pid/cmdline" | grep -o 'lb-agent run --node-name.*manifests') …     pid $pid"
        healthy "$node"
    done
}

# healthy NODE: its agent is ready and has no problem, and its canary, which runs after that, has seen its own connections.
healthy() {
    local tries=0
    until on "$1" lbctl status >"$scratch/status"; do
        ((++tries < 100)) || fail "lbctl status: $(cat "$scratch/status")"
        sleep 0.1
    done
    grep -E '^(node|ready|canary|problems) ' "$scratch/status" | tr -s ' ' | paste -sd, | sed 's/,/, /g'
    grep -q '^ready  *yes$' "$scratch/status" || fail "$1 is not ready"
    grep -q '^canary  *ok' "$scratch/status" || fail "$1: the canary does not see its own connections"
    grep -q '^problems  *none$' "$scratch/status" || fail "$1 has problems: $(cat "$scratch/status")"
}

# agent_pid NODE: the process of its agent, as the lab wrote it down.
agent_pid() { lab status | awk -v node="\"$1\"," '$1 == "\"name\":" {name = $2} $1 == "\"pid\":" && name == node {print $2 + 0}'; }

step_record() {
    local node tool timer
    for node in "${nodes[@]}"; do
        for tool in iptables ip6tables; do
            on "$node" "$tool" -w -A "${rule[@]}"
            on "$node" "$tool" -S | grep -v '^-P' >"$scratch/rules"
            echo "$node $tool: $(cat "$scratch/rules")"
            [[ $(cat "$scratch/rules") == "-A ${rule[*]}" ]] || fail "this is not the one rule"
        done
        # Nothing ages away before the last step has counted it.
        for timer in udp_timeout udp_timeout_stream tcp_timeout_time_wait tcp_timeout_close; do
            echo 600 | on "$node" tee "/proc/sys/net/netfilter/nf_conntrack_$timer" >/dev/null
        done
    done
}

step_list() {
    local node row
    for node in "${nodes[@]}"; do on "$node" lbctl service list >"$scratch/list.$node"; done
    echo '$ lbctl service list'
    cat "$scratch/list.node-a"
    cmp -s "$scratch/list.node-a" "$scratch/list.node-b" || fail "node-b has another list: $(cat "$scratch/list.node-b")"
    awk '{print $2, $3, $4, $5, $NF}' "$scratch/list.node-a" >"$scratch/rows"
    for row in "comlink 53/UDP ClusterIP $comlink4 10.244.2.11:1977,10.244.2.12:1977" \
        "comlink 53/UDP ClusterIP $comlink6 [fd00:10:244:2::11]:1977,[fd00:10:244:2::12]:1977" \
        "deathstar 80/TCP ClusterIP $vip4:80 10.244.2.11:8080,10.244.2.12:8080" \
        "deathstar 80/TCP ClusterIP [$vip6]:80 [fd00:10:244:2::11]:8080,[fd00:10:244:2::12]:8080"; do
        grep -qxF "$row" "$scratch/rows" || fail "there is no row $row"
    done
}

# http POD METHOD ADDRESS PATH WANT: asks once, by curl, for an answer of exactly this text; its getpeername has to
# say the Service.
http() {
    local body peer
    on "default/$1" curl -q -sS --noproxy '*' --max-time 5 -X "$2" -o "$scratch/body" -w '%{remote_ip}' "http://$3$4" \
        >"$scratch/peer" || fail "$1: curl -X $2 http://$3$4"
    body=$(cat "$scratch/body") peer=$(cat "$scratch/peer")
    echo "$1 \$ curl -X $2 http://$3$4 -> $body (peer: $peer)"
    [[ $body == "$5" ]] || fail "the answer is not: $5"
    [[ $peer == "${3//[][]/}" ]] || fail "curl's own socket says that it talks to $peer"
}

step_land_tiefighter() { http tiefighter POST "$vip4" "$landing" "Ship landed"; }
step_land_xwing() { http xwing POST "$vip4" "$landing" "Ship landed"; }
step_exhaust() { http xwing PUT "$vip4" /v1/exhaust-port "Direct hit"; }
step_land_v6() {
    local client
    for client in "${clients[@]}"; do http "$client" POST "[$vip6]" "$landing" "Ship landed"; done
}

step_land_mapped() {
    printf '%s\n' '{"op": "open", "id": 1, "family": "v6"}' \
        '{"op": "connect", "id": 1, "to": "[::ffff:'"$vip4"']:80"}' \
        '{"op": "request", "id": 1, "method": "POST", "path": "'$landing'"}' |
        on default/tiefighter lb-lab client >"$scratch/mapped"
    reply=$(sed -n 2p "$scratch/mapped")
    [[ $(word peer) == "[::ffff:$vip4]:80" ]] || fail "connect: $reply"
    local peer
    peer=$(word peer)
    reply=$(sed -n 3p "$scratch/mapped")
    echo "tiefighter: POST over an AF_INET6 socket, peer $peer -> $(word data), by $(word name)"
    [[ $(word data) == "Ship landed" ]] || fail "$reply"
}

# tally TIMES LEAST: reads what lb-lab dial says. All of TIMES connections were answered, by both backends, by each at
# least LEAST times.
tally() {
    awk -v times="$1" -v least="$2" '
        { line = line (NR > 1 ? "," : "") $0 }
        $2 ~ /^default\/deathstar-[12]$/ && NF == 3 { answered += $1; if ($1 >= least) servers++ }
        END { gsub(/ +/, " ", line); gsub("default/", "", line); sub(/^ /, "", line); print line; exit !(answered == times && servers == 2 && NR == 2) }'
}

# dial POD TO TIMES LEAST [OPTION…]
dial() {
    local out
    out=$(on "default/$1" lb-lab dial "$2" --times "$3" --parallel 4 "${@:5}")
    out=$(tally "$3" "$4" <<<"$out") || fail "$1 -> $2: $3 wanted from both backends, and $4 from each; got: $out"
    printf '%-10s -> %-19s %s\n' "$1" "$2" "$out"
}

# Of N choices between two, fewer than a quarter for one: less than one in a million for N = 100.
step_spread() {
    local client
    for client in "${clients[@]}"; do
        dial "$client" "$vip4:80" 100 25 -X POST --path "$landing"
        dial "$client" "[$vip6]:80" 100 25 -X POST --path "$landing"
    done
}

step_comlink() {
    local client
    for client in "${clients[@]}"; do
        dial "$client" "$comlink4" 30 1 --udp
        dial "$client" "$comlink6" 30 1 --udp
    done
}

step_refused() {
    local out
    out=$(on default/xwing lb-lab dial "$vip4:81" --timeout-ms 1000)
    echo "xwing -> $vip4:81 $out"
    [[ $out =~ ^\ *1\ ECONNREFUSED$ ]] || fail "this is no ECONNREFUSED"
}

# ask JSON: one request to the client that keeps connections open, and its reply in $reply.
ask() {
    printf '%s\n' "$1" >&7
    IFS= read -r -t 5 reply <&8 || fail "the client in default/tiefighter is silent"
    [[ $reply != *'"ok":false'* && $reply != *'"error"'* ]] || fail "$1: $reply"
}
# word KEY: the value of the first such key in $reply.
word() { [[ $reply =~ \"$1\":\"?([^,\"}]*) ]] && printf '%s\n' "${BASH_REMATCH[1]}"; }

# held ID: says how a held connection fares, after its name and that of the backend which answers it.
held() {
    ask '{"op": "held", "id": '"$1"'}'
    printf '%s %s\n' "$(word uses)" "$(word name)"
}

# The held sockets by number; 4 sends each datagram by sendto(), which asks the socket programs anew.
held_names=('' "TCP $vip4:80" "TCP [$vip6]:80" "UDP $comlink4, connected" "UDP $comlink4, unconnected")

# go_on: each held connection is in use, has been so ever since, and is with the backend of $scratch/held.ID; shows the uses
# since then.
go_on() {
    local id uses who before whom tries
    for id in 1 2 3; do
        read -r before whom <"$scratch/held.$id"
        for ((tries = 0; tries < 50; tries++)); do
            held "$id" >"$scratch/now" || fail "${held_names[id]}: $(cat "$scratch/now")"
            read -r uses who <"$scratch/now"
            ((uses < before + 5)) || break
            sleep 0.1
        done
        echo "${held_names[id]}: answered by $who, $before times before, $((uses - before)) since"
        [[ $who == "$whom" ]] || fail "it was with $whom before"
        ((uses >= before + 5)) || fail "it stands still"
    done
    ask '{"op": "ask", "id": 4, "to": "'"$comlink4"'"}'
    echo "${held_names[4]}: answered by $(word name), from $(word from)"
    [[ $(word name) == $(cat "$scratch/held.4") ]] || fail "it was with $(cat "$scratch/held.4") before"
    [[ $(word from) == "$comlink4" ]] || fail "recvfrom() does not say the Service"
}

step_kill() {
    local id pid
    "$LB_BIN_DIR/lb-lab" exec default/tiefighter -- lb-lab client <&7 >&8 7>&- 8>&- 9>&- &
    ask '{"op": "open", "id": 1, "family": "v4"}'
    ask '{"op": "open", "id": 2, "family": "v6"}'
    ask '{"op": "open", "id": 3, "family": "v4", "proto": "udp"}'
    ask '{"op": "open", "id": 4, "family": "v4", "proto": "udp"}'
    ask '{"op": "connect", "id": 1, "to": "'"$vip4"':80"}'
    ask '{"op": "connect", "id": 2, "to": "['"$vip6"']:80"}'
    ask '{"op": "connect", "id": 3, "to": "'"$comlink4"'"}'
    ask '{"op": "ask", "id": 4, "to": "'"$comlink4"'"}'
    word name >"$scratch/held.4"
    for id in 1 2 3; do
        ask '{"op": "hold", "id": '$id', "every_ms": 10, "http": {"method": "POST", "path": "'$landing'"}}'
    done
    sleep 0.2
    pid=$(agent_pid node-a)
    kill -0 "$pid"
    lab agent kill node-a
    for id in 1 2 3; do
        held "$id" >"$scratch/held.$id"
        read -r uses _ <"$scratch/held.$id"
        ((uses > 0)) || fail "${held_names[id]}: was not in use before the kill: $reply"
    done
    echo "\$ ./scripts/lab agent kill node-a     pid $pid"
    ! kill -0 "$pid" 2>/dev/null || [[ $(cut -d' ' -f3 "/proc/$pid/stat") == Z ]] || fail "the agent still runs"
    ! on node-a lbctl status >"$scratch/status" 2>&1 || fail "lbctl is answered"
    echo "\$ lbctl status -> $(head -n1 "$scratch/status")"
    go_on
}

step_orphaned() {
    local client
    for client in "${clients[@]}"; do
        http "$client" POST "$vip4" "$landing" "Ship landed"
        dial "$client" "$vip4:80" 30 1 -X POST --path "$landing"
        dial "$client" "[$vip6]:80" 30 1 -X POST --path "$landing"
        dial "$client" "$comlink4" 30 1 --udp
    done
    ! on node-a lbctl status >/dev/null 2>&1 || fail "there is an agent"
}

step_restart() {
    lab agent start node-a
    echo "\$ ./scripts/lab agent start node-a     pid $(agent_pid node-a)"
    healthy node-a
    on node-a lbctl service list | cmp - "$scratch/list.node-a" || fail "it lists other Services than before"
    go_on
}

step_drain() {
    local out times
    lab apply -f - <<'END'
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: deathstar-v4, labels: {kubernetes.io/service-name: deathstar}}
addressType: IPv4
ports:
- {name: http, port: 8080, protocol: TCP}
endpoints:
- {addresses: [10.244.2.11], nodeName: node-b, conditions: {ready: false}}
- {addresses: [10.244.2.12], nodeName: node-b, conditions: {ready: true}}
END
    for ((times = 0; times < 60; times++)); do
        on node-a lbctl service list >"$scratch/list"
        ! grep -qE " 10\.244\.2\.12:8080$" "$scratch/list" || break
        sleep 0.05
    done
    grep ' deathstar ' "$scratch/list"
    out=$(on default/xwing lb-lab dial "$vip4:80" --times 40 --parallel 4 | tr -s ' ')
    echo "xwing      -> $vip4:80      $out"
    [[ $out == " 40 default/deathstar-2 10.244.2.12:8080" ]] || fail "not all went to deathstar-2"
    go_on
}

# server_log: the lines of the servers' logs, one for each request, as `PROTOCOL SOURCE PORT ADDRESS PORT`.
server_log() {
    sed -nE 's/^name=\S+ source=\[?([^] ]+)\]?:([0-9]+) address=\[?([^] ]+)\]?:([0-9]+) protocol=(\S+).*/\5 \1 \2 \3 \4/p' \
        "/run/lb-lab/$(lab_id)"/logs/default_deathstar-*.log
}

step_sources() {
    local address
    server_log >"$scratch/requests.log"
    awk '{n[$2]++} END {for (a in n) print n[a], "requests from", a}' "$scratch/requests.log" | sort -k4
    for address in $client_addresses; do
        grep -qF " $address " "$scratch/requests.log" || fail "none came from $address"
    done
    awk -v known="$client_addresses" 'index(" " known " ", " " $2 " ") == 0 {print; bad = 1} END {exit bad}' \
        "$scratch/requests.log" || fail "these did not come from a client's own address"
}

# recorded NODE: what its conntrack holds, as server_log has it, by the original direction.
recorded() {
    local family
    for family in ipv4 ipv6; do
        on "$1" conntrack -L -f $family 2>/dev/null
    done | awk '{
        split("", first)
        for (i = 2; i <= NF; i++) { eq = index($i, "="); key = substr($i, 1, eq - 1); if (eq && !(key in first)) first[key] = substr($i, eq + 1) }
        print toupper($1), first["src"], first["sport"], first["dst"], first["dport"] }' | sort -u
}

step_netfilter() {
    local node connections protocol
    server_log | sort -u >"$scratch/connections"
    connections=$(wc -l <"$scratch/connections")
    # Every kind is among them, or nothing would be shown of it.
    for protocol in 'TCP 10\.' 'TCP fd00:' 'UDP 10\.' 'UDP fd00:'; do
        grep -q "^$protocol" "$scratch/connections" || fail "the servers saw no $protocol"
    done
    for node in "${nodes[@]}"; do
        recorded "$node" >"$scratch/recorded"
        awk -v clients="$client_addresses" -v servers="$server_addresses" -v services="$service_addresses" -v node="$node" '
            function among(list, address) { return index(" " list " ", " " address " ") > 0 }
            among(services, $4) { service++; print node ": " $0 }
            among(clients, $2) && among(servers, $4) { pods[$1]++ }
            END {
                printf "%s: conntrack -L: %d entries of TCP and %d of UDP from pod to pod, %d to a Service\n", node, pods["TCP"], pods["UDP"], service
                exit service > 0 || !pods["TCP"] || !pods["UDP"]
            }' "$scratch/recorded" || fail "netfilter saw a Service's address, or nothing at all"
        comm -23 "$scratch/connections" "$scratch/recorded" >"$scratch/missing"
        [[ ! -s $scratch/missing ]] || fail "not recorded on $node: $(head -n3 "$scratch/missing")"
        echo "$node: among them all $connections connections that the servers' logs know, address for address"
    done
}

# The proof by opposite: a socket in the same pod, outside the node's cgroup, is not translated; its packets carry the
# Service's address through netfilter, where the step before would have found it.
step_control() {
    local namespace address
    namespace=$(lab_id)-pod-default_tiefighter
    for address in $vip4 "[$vip6]"; do
        ! ip netns exec "$namespace" curl -q -s --noproxy '*' --connect-timeout 0.2 "http://$address/" 7>&- 8>&- 9>&- ||
            fail "$address answers without the agent"
    done
    recorded node-a | awk -v services="$vip4 $vip6" 'index(" " services " ", " " $4 " ") {print "node-a: conntrack -L: " $0; n++}
        END {exit n < 2}' || fail "conntrack did not record them: the step before shows nothing"
}

# alive_in ID: processes in the lab's cgroups; one that is dead and waits for its parent is none.
alive_in() {
    local file
    for file in $(grep -lF "$1" /proc/[0-9]*/cgroup 2>/dev/null || true); do
        awk -v file="$file" '$1 == "State:" && $2 !~ /[ZX]/ {print file}' "${file%/*}/status" 2>/dev/null || true
    done
}

step_down() {
    local id left
    id=$(lab_id)
    lab down
    left=$(
        ip netns list | grep -F "$id" || true
        find /run/netns -name "$id*" 2>/dev/null || true
        grep -F "$id" /proc/mounts || true
        find /run/lb-lab -name "$id" 2>/dev/null || true
        awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts | xargs -I{} find {} -maxdepth 1 -name "$id*"
        alive_in "$id"
        ip -o link | grep -E ' (node|pod|client)[0-9]+@' || true
    )
    [[ -z $left ]] || fail "left behind: $left"
    echo "$id: no namespace, process, cgroup, mount, device or file is left"
}
