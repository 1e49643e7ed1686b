#!/usr/bin/env bash
# Starts the worker twice by the node's own unit: `prove.sh GPU [S3-URI]`. The first start fills the caches of vLLM,
# Triton and CUDA; the second one, from a cold page cache, is what a node does each time, and is measured and judged.
#
# GPU is true or false; with false nothing is started, and that is said. While an image is baked its record becomes part
# of it. On an instance that was started from it, the record of the last image is what it is compared with and takes the
# place of: boot.json below the URI, which is that of a folder, or none.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

home=/opt/tl-fif
record=$home/boot.json
records=${2:-none}
before=$(mktemp)
trap 'rm -f "$before"' EXIT

prove() {
    (cd "$SOURCE" && run "$home/.venv/bin/python" -m ami.proof --unit tl-fif-supervisord.service \
        --golden "$MODEL_GOLDEN" "$@")
}

case ${1:-} in
true) ;;
false)
    say "NOT PROVEN ON A GPU: this machine is said to have none; nobody knows how long a boot takes, or whether the" \
        "answer is right, and the caches stay empty until the first boot of each volume fills them"
    exit 0
    ;;
*) fail "say whether this machine has a GPU: prove.sh true, or prove.sh false" ;;
esac

baseline=()
if [[ $records != none ]] && run aws s3 cp --only-show-errors "$records/boot.json" "$before"; then
    baseline=(--baseline "$before")
else
    say "no record of an earlier image to compare with"
fi

# On a volume that is still in S3 this one takes minutes instead of seconds; each later one is as the second.
prove --deadline 1500
run sync
run sysctl --quiet vm.drop_caches=3
prove --limits "$home/ami/boot_limits.json" "${baseline[@]}" --output "$record"
[[ $records == none ]] || run aws s3 cp --only-show-errors "$record" "$records/boot.json"
