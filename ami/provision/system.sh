#!/usr/bin/env bash
# Packages of Amazon Linux itself. Its release, which the parent image is of, decides on their versions.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# gcc and the headers: Triton builds its launcher with them. openssl: keys, and nginx's certificate.
packages=(
    "python$PYTHON_VERSION" "python$PYTHON_VERSION-devel" gcc
    nginx amazon-cloudwatch-agent logrotate openssl tar gzip
)
run dnf install --assumeyes --quiet --setopt=install_weak_deps=False "${packages[@]}"

# Nobody logs in by it: SSM's Session Manager needs no port, no key and no sshd.
mask_unit sshd.service sshd.socket
write_file 0644 /etc/cloud/cloud.cfg.d/90-tl-fif.cfg <<'FILE'
# No sshd, so no keys for it: they take time at the first boot.
ssh_genkeytypes: []
FILE

# They read the disk and the network just when a cold start needs both.
mask_unit dnf-makecache.timer update-motd.timer update-motd.service

# The worker reads its weights in one go, and Python its modules one after the other; a cold EBS volume gives more per
# request than the kernel's 128 KiB.
write_file 0644 /etc/udev/rules.d/90-tl-fif-readahead.rules <<'FILE'
ACTION=="add|change", SUBSYSTEM=="block", ENV{DEVTYPE}=="disk", ATTRS{model}=="Amazon Elastic Block Store", ATTR{queue/read_ahead_kb}="1024"
FILE

# The disk is small, and a full one would end the worker.
write_file 0644 /etc/systemd/journald.conf.d/90-tl-fif.conf <<'FILE'
[Journal]
SystemMaxUse=200M
RuntimeMaxUse=50M
MaxRetentionSec=14day
FILE

# A core dump would hold prompts, and limits do not count for one that is piped to a program.
write_file 0644 /etc/sysctl.d/90-tl-fif.conf <<'FILE'
kernel.core_pattern = |/bin/false
kernel.dmesg_restrict = 1
kernel.kptr_restrict = 2
FILE
