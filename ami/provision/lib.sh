# shellcheck shell=bash
# What every step of ami/provision/ and every install hook has in common; sourced, never run.
#
# A step may run twice and changes nothing the second time. By TLFIF_ROOT it lays its files out in a scratch folder
# instead of /, and with TLFIF_DRY_RUN=1 it prints what only a machine of its own can do (`run`), instead of doing it.

TLFIF_ROOT=${TLFIF_ROOT:-}
TLFIF_DRY_RUN=${TLFIF_DRY_RUN:-0}
export TLFIF_ROOT TLFIF_DRY_RUN

# The folder that the archive was unpacked into: this project.
SOURCE=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=../pins.env
. "$SOURCE/ami/pins.env"

fail() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

say() {
    printf '%s: %s\n' "${0##*/}" "$*"
}

# Either alone would do half of a step here and half of it nowhere.
if [[ -n $TLFIF_ROOT && $TLFIF_DRY_RUN != 1 ]]; then
    fail "a scratch root wants TLFIF_DRY_RUN=1, or the commands of this step would change the machine itself"
elif [[ -z $TLFIF_ROOT && $TLFIF_DRY_RUN == 1 ]]; then
    fail "a dry run wants a TLFIF_ROOT to put the files of this step into"
elif [[ $TLFIF_DRY_RUN != 1 ]] && ! grep -qs '^PLATFORM_ID="platform:al2023"$' /etc/os-release; then
    # Some of the steps delete; nobody's own machine is an image in the making.
    fail "this is no Amazon Linux 2023; try it with TLFIF_ROOT and TLFIF_DRY_RUN=1"
fi

dry() {
    [[ $TLFIF_DRY_RUN == 1 ]]
}

# Where a path of the node is: `root /etc/nginx`.
root() {
    printf '%s\n' "$TLFIF_ROOT$1"
}

# A command that needs the real machine: dnf, useradd, chown, modprobe.
run() {
    if dry; then
        printf 'would run:'
        printf ' %q' "$@"
        printf '\n'
    else
        "$@"
    fi
}

# A folder: `install_folder MODE DEST [OWNER]`, owner root unless named.
install_folder() {
    install -d -m "$1" "$(root "$2")"
    [[ -z ${3:-} ]] || run chown "$3:$3" "$2"
}

# A file of root's: `install_file MODE SRC DEST`. One that is there with these bytes and this mode stays untouched.
install_file() {
    local dest
    dest=$(root "$3")
    if cmp -s -- "$2" "$dest" && [[ $(stat -c %a "$dest") == "${1#0}" ]]; then
        return
    fi
    install -D -m "$1" -- "$2" "$dest.new"
    mv -f -- "$dest.new" "$dest"
}

# The same with what comes on standard input: `write_file MODE DEST <<EOF`.
write_file() {
    local text
    text=$(mktemp)
    cat >"$text"
    install_file "$1" "$text" "$2"
    rm -f "$text"
}

# Units that start with the machine; not now, an image is not the node yet. Offline, so that a scratch root shows it too,
# unless the unit is from a package that a dry run did not install.
enable_unit() {
    local unit
    for unit in "$@"; do
        if dry && [[ ! -e $(root "/etc/systemd/system/$unit") ]]; then
            run systemctl enable "$unit"
        else
            systemctl --root="${TLFIF_ROOT:-/}" --quiet enable "$unit"
        fi
    done
}

# As `systemctl mask` does; it also keeps a unit away that some package brings later.
mask_unit() {
    local unit
    install -d "$(root /etc/systemd/system)"
    for unit in "$@"; do
        ln -sfn /dev/null "$(root "/etc/systemd/system/$unit")"
    done
}

# Whether this machine has an NVIDIA GPU, with or without a driver; never in a dry run.
gpu_here() {
    ! dry && grep -qs 0x10de /sys/bus/pci/devices/*/vendor
}
