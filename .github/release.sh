#!/usr/bin/env bash
# Makes the release of this version on GitHub, of what lies in dist/ (`make release`). Needs gh, signed in, and the tag.
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
    printf 'release.sh: %s\n' "$*" >&2
    exit 1
}

command -v gh >/dev/null || fail "gh is not installed; get it from cli.github.com and run: gh auth login"
version=$(<VERSION)
tag=v$version
commit=$(git rev-parse HEAD)

[[ $(git rev-parse --quiet --verify "refs/tags/$tag^{commit}") == "$commit" ]] ||
    fail "this commit is not $tag, which is what VERSION says. Tag it: git tag $tag && git push origin $tag
If $tag is another commit, that version is taken: make bump"
git merge-base --is-ancestor "$commit" origin/main ||
    fail "$tag is not on main. Delete the tag, merge first, and tag what is on main"
passed=$(gh run list --workflow ci.yml --commit "$commit" --branch main --event push \
    --status success --json databaseId --jq length)
[[ $passed -gt 0 ]] ||
    fail "ci has not passed for $tag on main. Wait until it has, and run this again; if it fails, mend main and bump"

for file in tl-fif-router-x86_64.zip tl-fif-router-arm64.zip tl-fif-node.tar.gz; do
    [[ -s dist/$file ]] || fail "there is no dist/$file. Run: make lambda-package image-package sbom"
done

# gh makes a draft, adds the files and publishes it then; one that was cut off leaves the draft.
case $(gh release view "$tag" --json isDraft --jq .isDraft 2>/dev/null || true) in
false)
    echo "$tag is released already; another release takes another version: make bump"
    exit
    ;;
true) gh release delete "$tag" --yes ;;
esac

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
make --no-print-directory release-notes >"$scratch/notes.md"
[[ -s $scratch/notes.md ]] || fail "CHANGELOG.md says nothing of $version; add its part"
mapfile -t files < <(find dist -maxdepth 1 -type f ! -name SHA256SUMS | sort)
(cd dist && sha256sum -- "${files[@]#dist/}") >"$scratch/SHA256SUMS"
gh release create "$tag" --verify-tag --title "$tag" --notes-file "$scratch/notes.md" \
    "${files[@]}" "$scratch/SHA256SUMS"
