#!/usr/bin/env bash
# Writes the agent's configuration of this boot, before the agent starts: which log group the worker's settings name,
# at which port the worker answers, and which instance this is. Nobody but the agent waits for it.
#
# In tests TLFIF_ROOT is the folder that stands for /.
set -euo pipefail

ROOT=${TLFIF_ROOT:-}
SETTINGS=$ROOT/etc/tl-fif/worker.env
# As the worker: the firmware knows the id at once, the metadata service only once the network is up.
ID_FILE=$ROOT/sys/devices/virtual/dmi/id/board_asset_tag
AGENT=$ROOT/opt/aws/amazon-cloudwatch-agent/etc
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# A setting as systemd reads the file: the last line wins, quotes around the value are not part of it. Read, not
# sourced: the file also holds the queue's address, which is none of the agent's business.
setting() {
    sed -n "s/^$1=//p" "$SETTINGS" | tail -n 1 | sed -E "s/^'(.*)'\$/\1/; s/^\"(.*)\"\$/\1/"
}

[[ -r $SETTINGS ]] || fail "$SETTINGS cannot be read; cloud-init writes it at the first boot"
group=$(setting TLFIF_LOG_GROUP)
[[ $group =~ ^[A-Za-z0-9._/#-]{1,512}$ ]] || fail "TLFIF_LOG_GROUP in $SETTINGS has to name a log group; it is '$group'"
port=$(setting TLFIF_HTTP_PORT)
port=${port:-8000}
[[ $port =~ ^[1-9][0-9]{0,4}$ ]] || fail "TLFIF_HTTP_PORT in $SETTINGS has to be a port; it is '$port'"
instance=$(<"$ID_FILE")
[[ $instance =~ ^i-[0-9a-f]{1,32}$ ]] || fail "$ID_FILE has to hold an instance's id; it holds '$instance'"

render() {
    mkdir -p "$(dirname "$2")"
    sed -e "s|@LOG_GROUP@|$group|g" -e "s|@PORT@|$port|g" -e "s|@INSTANCE_ID@|$instance|g" "$HERE/$1" >"$AGENT/tl-fif.new"
    chmod 644 "$AGENT/tl-fif.new"
    mv -f "$AGENT/tl-fif.new" "$2"
}

# The agent reads every file of that folder as JSON, so the other one, and what is not finished, lies beside it.
render amazon-cloudwatch-agent.json "$AGENT/amazon-cloudwatch-agent.d/tl-fif.json"
render prometheus.yaml "$AGENT/tl-fif-prometheus.yaml"
