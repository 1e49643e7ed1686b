#!/usr/bin/env bash
# Runs before the agent is stopped. When the machine goes down, it waits until the worker has ended, so that the agent
# ships the worker's last words, such as why it stopped. An order of units would do the same, and would have the worker
# wait for the agent at each boot.
set -euo pipefail

LONGEST_SECONDS=65
# What the agent needs to see the last line; it then sends what it has before it ends.
LAST_LINE_SECONDS=2

# The exit code says whether all is well, which it is not in between.
[[ $(systemctl is-system-running || true) == stopping ]] || exit 0

# `is-active` would not do: a worker that still writes its replies is "deactivating".
worker_is_up() {
    local states
    states=$(systemctl show --property=ActiveState --value tl-fif-supervisord.service tl-fif-worker.service)
    grep -Eq '^(active|activating|deactivating|reloading)$' <<<"$states"
}

while ((SECONDS < LONGEST_SECONDS)) && worker_is_up; do
    sleep 0.5
done
sleep "$LAST_LINE_SECONDS"
