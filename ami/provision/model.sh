#!/usr/bin/env bash
# The model in /opt/tl-fif/model: fetched by revision, checked by hash, as safetensors in a single file.
#
# TLFIF_MODEL_SOURCE is where to fetch it, https://huggingface.co unless set; TLFIF_PYTHON converts a GGUF file.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

pin() {
    local name=MODEL_${MODEL}_$1
    printf '%s\n' "${!name}"
}

source=${TLFIF_MODEL_SOURCE:-https://huggingface.co}/$(pin REPOSITORY)/resolve/$(pin REVISION)
python=${TLFIF_PYTHON:-/opt/tl-fif/.venv/bin/python}
file=$(pin FILE)
besides=$(pin BESIDES)
folder=$(root /opt/tl-fif/model)
sums=$folder.sha256
work=$folder.partial
made_of="# $(pin REPOSITORY) $(pin REVISION) $file $(pin SHA256)"

is_there() {
    [[ -f $sums && $(head -n 1 "$sums") == "$made_of" ]] &&
        (cd "$folder" && grep -v '^#' "$sums" | sha256sum --check --strict --quiet) >/dev/null 2>&1
}

fetch() {
    curl --fail --silent --show-error --location --retry 5 --retry-connrefused --retry-delay 2 \
        --output "$work/$1" "$source/$1" || fail "cannot fetch $source/$1"
}

if is_there; then
    say "$file is there already, with the hashes of $sums"
    exit 0
fi

# Whatever goes wrong, no model that looks whole is left behind, and no half of one.
trap 'rm -rf "$work"' EXIT
rm -rf "$work" "$folder" "$sums"
mkdir -p "$work/new"

# What is small first and the weights last and in one go, so that on the disk they are one long stretch.
for name in ${besides//,/ }; do
    fetch "$name"
    mv "$work/$name" "$work/new/"
done
fetch "$file"
sha256sum --check --strict --quiet <<<"$(pin SHA256)  $work/$file" ||
    fail "$file is not the file of ami/pins.env; nothing is installed"

case $file in
*.safetensors)
    mv "$work/$file" "$work/new/"
    ;;
*.gguf)
    # Its folder is the one that the converter makes below XDG_CACHE_HOME.
    converted=$(cd "$SOURCE" && XDG_CACHE_HOME=$work/cache "$python" -c \
        'import pathlib, sys, worker.gguf; print(worker.gguf.converted(pathlib.Path(sys.argv[1])))' "$work/$file")
    find "$converted" -type f ! -name '*.safetensors' -exec mv -t "$work/new" {} +
    find "$converted" -type f -name '*.safetensors' -exec cp -t "$work/new" {} +
    ;;
*)
    fail "$file is neither safetensors nor GGUF"
    ;;
esac
weights=("$work"/new/*.safetensors)
[[ ${#weights[@]} == 1 && -f ${weights[0]} ]] || fail "$file is not a single file of weights"

chmod -R u=rwX,go=rX "$work/new"
(cd "$work/new" && printf '%s\n' "$made_of" && find . -type f -printf '%P\0' | sort -z | xargs -0 sha256sum) >"$work/sums"
sync "${weights[0]}"
mv "$work/new" "$folder"
mv "$work/sums" "$sums"
say "$(grep -c -v '^#' "$sums") files, $(du --summarize --apparent-size --human-readable "$folder" | cut -f 1)"
