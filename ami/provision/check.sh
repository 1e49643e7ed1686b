#!/usr/bin/env bash
# Holds what was baked against ami/pins.env, the locks and the files of this project; names all that is wrong at once.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

home=/opt/tl-fif
python=$home/.venv/bin/python
problems=0

wrong() {
    say "WRONG: $*"
    problems=$((problems + 1))
}

# `same WHAT WANTED FOUND`
same() {
    if [[ $2 == "$3" ]]; then say "$1: $3"; else wrong "$1 is '$3' and not '$2'"; fi
}

# A command that has to succeed, if this is the machine for it.
passes() {
    run "$@" || wrong "$* fails"
}

# Names of packages as the locks write them.
normal() {
    sed -E 's/ --hash.*//; s/\+.*//' | awk -F== '{ gsub(/[-_.]+/, "-", $1); print tolower($1) "==" $2 }' | sort
}

versions() {
    local driver module
    driver=$(rpm -q --queryformat '%{VERSION}' nvidia-driver-cuda) || true
    module=$(modinfo --set-version "$(uname -r)" --field version nvidia 2>/dev/null) || true
    same "driver's branch" "$NVIDIA_DRIVER_BRANCH" "${driver%%.*}"
    same "driver's module for $(uname -r)" "$driver" "$module"
    same Python "$PYTHON_VERSION" "$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
    same vLLM "$VLLM_VERSION" "$("$python" -c 'import importlib.metadata as m; print(m.version("vllm"))')"
    diff <(grep -v '^#' "$SOURCE/ami/requirements.lock" | grep . | normal) \
        <("$python" -m pip list --format=freeze | normal) || wrong "the packages above are not those of the lock"
}

model() {
    local sums
    sums=$(root "$home/model.sha256")
    (cd "$(root "$home/model")" && grep -v '^#' "$sums" | sha256sum --check --strict --quiet) ||
        wrong "the model is not what $sums says"
    [[ $MODEL == GGUF ]] || grep -q "^$MODEL_SAFETENSORS_SHA256  $MODEL_SAFETENSORS_FILE\$" "$sums" ||
        wrong "the weights are not those of ami/pins.env"
}

services() {
    local unit
    for unit in "$SOURCE"/supervisord/tl-fif-*; do
        cmp -s "$unit" "$(root "/etc/systemd/system/${unit##*/}")" || wrong "${unit##*/} is not this project's"
    done
    for unit in tl-fif-supervisord.service tl-fif-halt.path; do
        [[ -L $(root "/etc/systemd/system/multi-user.target.wants/$unit") ]] || wrong "$unit is not enabled"
    done
    for unit in sshd.service sshd.socket; do
        [[ $(readlink "$(root "/etc/systemd/system/$unit")") == /dev/null ]] || wrong "$unit is not masked"
    done
    passes systemd-analyze verify --man=no /etc/systemd/system/tl-fif-*
    # Into memory, of which no image is made. nginx tests its configuration in its unit alone, which makes its folders.
    passes systemctl start tl-fif-certificate.service
    passes systemctl start nginx.service
}

secrets() {
    local path
    for path in "$TLFIF_ROOT"/etc/tl-fif/worker.env "$TLFIF_ROOT"/etc/ssh/ssh_host_*_key \
        "$TLFIF_ROOT"/{root,home/*}/.ssh/authorized_keys "$TLFIF_ROOT"/{root,home/*}/.aws; do
        [[ ! -e $path ]] || wrong "$path must not be in an image"
    done
    # Keys of AWS, and private ones; packages bring examples of both, and code names them.
    if grep --recursive --files-with-matches --extended-regexp --exclude-dir=.venv --exclude-dir=model \
        '(AKIA|ASIA)[0-9A-Z]{16}|^-----BEGIN ([A-Z]+ )?PRIVATE KEY-----$' "$TLFIF_ROOT/etc/tl-fif" "$(root "$home")"; then
        wrong "there is a secret in the files above"
    fi
}

disk() {
    local used
    if dry; then
        used=$(du --summarize --block-size=1G "$TLFIF_ROOT" | cut -f 1)
    else
        used=$(df --output=used --block-size=1G / | tail -n 1)
    fi
    used=${used//[[:space:]]/}
    if ((used > MAX_DISK_GIB)); then wrong "$used GiB are in use, and $MAX_DISK_GIB are paid for"; else say "disk: $used GiB"; fi
}

dry || versions
model
services
secrets
disk
((problems == 0)) || fail "$problems things are wrong with this image"
