#!/usr/bin/env bash
# Puts what configures the CloudWatch agent, the SSM agent and logrotate where the node wants it; their packages are
# there already. Called while the image is built. What depends on the instance is written at each boot, by render.sh.
set -euo pipefail
# shellcheck source=../provision/lib.sh
. "$(dirname "$0")/../provision/lib.sh"

FILES=$SOURCE/ami/cloudwatch

dry || id cwagent >/dev/null || fail "there is no user cwagent, which comes with the package amazon-cloudwatch-agent"

install_file 0644 "$FILES/agent.conf" /etc/systemd/system/amazon-cloudwatch-agent.service.d/tl-fif.conf
install_file 0644 "$FILES/tmpfiles.conf" /etc/tmpfiles.d/tl-fif-access-log.conf
for each in "$FILES"/logrotate.d/*; do
    install_file 0644 "$each" "/etc/logrotate.d/${each##*/}"
done
# The SSM agent carries the only shell there is; without this it knows IPv4 alone, and the node has no way out by that.
install_file 0644 "$SOURCE/ami/amazon-ssm-agent.json" /etc/amazon/ssm/amazon-ssm-agent.json
enable_unit amazon-cloudwatch-agent.service amazon-ssm-agent.service logrotate.timer
