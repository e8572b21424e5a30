#!/bin/bash
# `regrow exec` beside clush, parallel-ssh and `ansible -m shell`: one command on COUNT real sshds on loopback.
# Usage: bench/exec.sh [COUNT]     needs root; the table goes to standard output
set -euo pipefail
cd "$(dirname "$0")/.."
count=${1:-200}
fanout=32
for tool in clush parallel-ssh; do
    command -v "$tool" >/dev/null || { echo "exec.sh: $tool is missing: apt-get install clustershell pssh" >&2; exit 1; }
done
work=$(mktemp -d /tmp/regrow-exec.XXXXXX)
port=2222
mkdir -p /run/sshd "$work/home" "$work/run"
export XDG_RUNTIME_DIR=$work/run
cleanup() {
    for file in "$work"/*.pid; do kill "$(cat "$file")" 2>/dev/null || true; done
    pkill -f "^ssh: $work/" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
ssh-keygen -q -t ed25519 -N '' -f "$work/host"
ssh-keygen -q -t ed25519 -N '' -f "$work/user"
cp "$work/user.pub" "$work/authorized_keys"
key=$(cut -d' ' -f1,2 "$work/host.pub")
for n in $(seq 1 "$count"); do
    /usr/sbin/sshd -f /dev/null -o ListenAddress=127.0.60."$n" -o Port=$port -o HostKey="$work/host" \
        -o AuthorizedKeysFile="$work/authorized_keys" -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes \
        -o SetEnv=HOME="$work/home" -o PidFile="$work/$n.pid"
    echo "[127.0.60.$n]:$port $key" >>"$work/known_hosts"
    echo "127.0.60.$n" >>"$work/hosts"
done
cat >"$work/config" <<CONFIG
Host *
  User root
  Port $port
  IdentityFile $work/user
  IdentitiesOnly yes
  UserKnownHostsFile $work/known_hosts
CONFIG
regrow="./target/release/regrow exec --ssh-config $work/config --fanout $fanout"
seconds() {
    local start end
    start=$(date +%s.%N)
    "$@" >/dev/null 2>"$work/err" || { cat "$work/err" >&2; exit 1; }
    end=$(date +%s.%N)
    awk "BEGIN { printf \"%.2f\", $end - $start }"
}
median() { printf '%s\n' "$@" | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] }'; }
ours=() clush=() pssh=() warm=()
for _ in 1 2 3; do
    ours+=("$(seconds $regrow --keep 0s @"$work/hosts" -- true)")
    clush+=("$(seconds clush -q -f $fanout -O ssh_options="-F $work/config" --hostfile "$work/hosts" true)")
    pssh+=("$(seconds parallel-ssh -p $fanout -x "-F $work/config" -h "$work/hosts" true)")
done
seconds $regrow --keep 120s @"$work/hosts" -- true >/dev/null
for _ in 1 2 3; do warm+=("$(seconds $regrow --keep 120s @"$work/hosts" -- true)"); done
echo "| \`true\` on $count sshds on loopback, fan-out $fanout, both ends on these cores | seconds (median of 3) |"
echo "|---|---|"
echo "| \`regrow exec\`, cold | $(median "${ours[@]}") |"
echo "| \`clush\` | $(median "${clush[@]}") |"
echo "| \`parallel-ssh\` | $(median "${pssh[@]}") |"
echo "| \`regrow exec\`, connections kept | $(median "${warm[@]}") |"
if command -v ansible >/dev/null; then
    echo "| \`ansible -m shell\` | $(ANSIBLE_HOST_KEY_CHECKING=False ANSIBLE_SSH_ARGS="-F $work/config" \
        seconds ansible all -i "$work/hosts" -f $fanout -m shell -a true) |"
fi
