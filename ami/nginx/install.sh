#!/usr/bin/env bash
# Puts nginx's configuration, what confines it and what sees to its certificate where the node wants them; the packages
# are there already. Called while the image is built, when there is no certificate: each boot makes its own.
set -euo pipefail
# shellcheck source=../provision/lib.sh
. "$(dirname "$0")/../provision/lib.sh"

FILES=$SOURCE/ami/nginx

dry || id nginx >/dev/null || fail "there is no user nginx, which comes with the package nginx"

install_file 0644 "$FILES/nginx.conf" /etc/nginx/nginx.conf
install_file 0644 "$FILES/nginx.service.d/tl-fif.conf" /etc/systemd/system/nginx.service.d/tl-fif.conf
for each in tl-fif-certificate.service tl-fif-certificate.timer; do
    install_file 0644 "$FILES/$each" "/etc/systemd/system/$each"
done
enable_unit nginx.service tl-fif-certificate.timer
