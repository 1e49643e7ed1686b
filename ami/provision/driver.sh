#!/usr/bin/env bash
# NVIDIA's driver from NVIDIA's repository, the part for computing alone, its module built for the kernel that runs.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

repository=https://developer.download.nvidia.com/compute/cuda/repos/amzn2023/x86_64/cuda-amzn2023.repo
release=$(uname -r)
kernel=kernel
# Amazon Linux 2023 names the packages of its later kernels by their version.
[[ $release == 6.1.* ]] || kernel=kernel$(cut -d. -f1-2 <<<"$release")

run dnf config-manager --add-repo "$repository"
run dnf module enable --assumeyes --quiet "nvidia-driver:$NVIDIA_DRIVER_BRANCH-open"
run dnf install --assumeyes --quiet --setopt=install_weak_deps=False \
    "$kernel-devel-$release" "$kernel-headers-$release" "$kernel-modules-extra-$release" dkms
# Builds the module with all cores, which is most of this step's time.
run dnf install --assumeyes --quiet --setopt=install_weak_deps=False \
    kmod-nvidia-open-dkms nvidia-driver-cuda nvidia-persistenced nvidia-modprobe
run modinfo --set-version "$release" --field version nvidia

# Early in the boot and side by side with all else, instead of when the first program asks.
write_file 0644 /etc/modules-load.d/tl-fif-nvidia.conf <<'FILE'
nvidia
nvidia-uvm
FILE
# Keeps the GPU set up while nobody uses it.
enable_unit nvidia-persistenced.service

if gpu_here; then
    modprobe nvidia
    nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
else
    say "no GPU here: the driver is built and not loaded"
fi
