#!/usr/bin/env bash
# What the workflow `rollback` runs (`make rollback-form`). TO is what somebody typed, so it is looked at before make hands it to a shell.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'rollback.sh: %s\n' "$*" >&2
    exit 2
}

to=${TO:-}
name=${TLFIF_NAME:-tl-fif}
[[ -z $to || $to =~ ^(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}$ ]] ||
    fail "write the version like 0.8.0, or leave it empty for the one before the last deployment"
[[ $name =~ ^[a-z][a-z0-9-]*$ ]] || fail "TLFIF_NAME is the \`name\` of the Terraform roots, such as tl-fif"

arguments="--name $name${to:+ --to $to}${GITHUB_STEP_SUMMARY:+ --summary $GITHUB_STEP_SUMMARY}"
exec make rollback ARGS="$arguments"
