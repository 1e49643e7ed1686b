#!/usr/bin/env bash
# Takes away what is of the machine that baked the image and not of the image: the last step.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

system=$TLFIF_ROOT

# The worker's settings, had a proof been cut off, and what it logged meanwhile.
rm -f "$system/etc/tl-fif/worker.env"
rm -rf "$system"/var/log/tl-fif/* "$system"/var/log/nginx/*

# Keys of the machine and of whoever might have logged in, and what he typed.
rm -f "$system"/etc/ssh/ssh_host_*
for account in "$system"/{root,home/*}; do
    rm -rf "$account"/.ssh "$account"/.aws "$account"/.cache "$account"/.bash_history "$account"/.python_history
done

# What each instance makes for itself at its first boot.
run cloud-init clean --logs
rm -rf "$system"/var/lib/cloud/*
rm -f "$system/var/lib/systemd/random-seed" "$system/var/lib/dbus/machine-id"
install -d "$system/etc"
: >"$system/etc/machine-id"

run dnf clean all --quiet
rm -rf "$system"/var/cache/dnf/*
run journalctl --quiet --rotate
run journalctl --quiet --vacuum-time=1s
find "$system/var/log" -type f ! -path '*/journal/*' -exec truncate --size 0 {} + 2>/dev/null || true
rm -f "$system/var/tmp/tl-fif-node.tar.gz"
