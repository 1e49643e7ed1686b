#!/usr/bin/env bash
# Makes the labels that say how big a story is (`make labels`), or sets what they say anew. Needs gh, signed in.
set -euo pipefail

command -v gh >/dev/null || {
    echo "labels.sh: gh is not installed; get it from cli.github.com and run: gh auth login" >&2
    exit 1
}

label() {
    gh label create "$1" --description "$2" --color "$3" --force
}

label S-1 '≤2 h change' b4f0a7
label S-2 '½ day' a6e3f4
label S-3 '1-2 days' f6d28b
label S-5 'big ticket' f29fab
