#!/usr/bin/env bash
# The worker's user and folders, and the units of everything that runs on the node.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

if dry || ! id tlfif >/dev/null 2>&1; then
    run useradd --system --user-group --home-dir /var/cache/tl-fif --no-create-home --shell /sbin/nologin tlfif
fi
# What the worker logs is for its group, too, and the CloudWatch agent is no longer root when it reads.
run usermod --append --groups tlfif cwagent

# What the settings hold is the worker's business; systemd reads them as root. cloud-init writes them at the first boot.
install_folder 0750 /etc/tl-fif
install_folder 0750 /var/log/tl-fif tlfif
# Below the root volume, which a stop keeps, and not on the NVMe disk, which it wipes.
install_folder 0750 /var/cache/tl-fif tlfif

for unit in "$SOURCE"/supervisord/tl-fif-*; do
    install_file 0644 "$unit" "/etc/systemd/system/${unit##*/}"
done
enable_unit tl-fif-supervisord.service tl-fif-halt.path

"$SOURCE/ami/nginx/install.sh"
"$SOURCE/ami/cloudwatch/install.sh"
run systemctl daemon-reload
