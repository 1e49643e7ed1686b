#!/usr/bin/env bash
# A shell on the GPU's instance, or one of its ports on this machine, through AWS Systems Manager: nothing listens for
# it on the instance, and no port is open. It wakes nothing; docs/node.md says more.
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: ami/session.sh [-t NAME=VALUE] [-i INSTANCE] [shell | forward PORT [LOCAL_PORT]]

  shell              a shell on the instance (what happens if nothing is said)
  forward 8000       http://127.0.0.1:8000 here is the worker there: /v1, /healthz, /metrics
  forward 443 8443   https://127.0.0.1:8443 here is nginx there
  -t NAME=VALUE      tag of the instance; env=tinyllama unless said
  -i INSTANCE        which one, where several run

Region and credentials are those of the AWS CLI: AWS_REGION, AWS_PROFILE, aws-vault exec NAME -- …
TEXT
}

fail() {
    printf 'session.sh: %s\n' "$*" >&2
    exit 1
}

bad_usage() {
    printf 'session.sh: %s\n\n' "$*" >&2
    usage >&2
    exit 2
}

tag=env=tinyllama
instance=
while getopts ':t:i:h' option; do
    case $option in
    t) tag=$OPTARG ;;
    i) instance=$OPTARG ;;
    h) usage && exit ;;
    *) bad_usage "there is no option -$OPTARG, or it lacks its value" ;;
    esac
done
shift $((OPTIND - 1))
[[ $tag == ?*=?* ]] || bad_usage "a tag is NAME=VALUE, not '$tag'"
[[ -z $instance || $instance =~ ^i-[0-9a-f]+$ ]] || bad_usage "an instance's id is like i-0123456789abcdef0, not '$instance'"

what=${1:-shell}
case $what in
shell)
    (($# <= 1)) || bad_usage "shell takes nothing more"
    ;;
forward)
    (($# == 2 || $# == 3)) || bad_usage "forward takes a port, and another one here if need be"
    for port in "${@:2}"; do
        if [[ ! $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then
            bad_usage "'$port' is no port"
        fi
    done
    ;;
*) bad_usage "there is no '$what'" ;;
esac

command -v aws >/dev/null || fail "the AWS CLI is missing: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
command -v session-manager-plugin >/dev/null || fail "the AWS CLI wants session-manager-plugin for this: https://docs.aws.amazon.com/systems-manager/latest/userguide/session-manager-working-with-install-plugin.html"

complaint=$(mktemp)
trap 'rm -f "$complaint"' EXIT

# Asks AWS, and says in words what keeps it from answering.
ask() {
    local said
    if ! aws "$@" --output text 2>"$complaint"; then
        said=$(<"$complaint")
        case $said in
        *"locate credentials"* | *ExpiredToken* | *"token has expired"* | *"Token has expired"* | *RequestExpired* | \
            *InvalidClientTokenId* | *AuthFailure* | *UnrecognizedClient*)
            fail "AWS knows no credentials of yours, or they have expired; sign in first. It says: $said" ;;
        *"must specify a region"*)
            fail "no region: export AWS_REGION=…, that of your terraform apply" ;;
        *AccessDenied* | *UnauthorizedOperation*)
            fail "you may not do this; you need ec2:DescribeInstances, ssm:DescribeInstanceInformation, ssm:StartSession. It says: $said" ;;
        *) fail "AWS does not answer: $said" ;;
        esac
    fi
}

states=pending,running,shutting-down,stopping,stopped
found=$(ask ec2 describe-instances --filters "Name=tag:${tag%%=*},Values=${tag#*=}" "Name=instance-state-name,Values=$states" \
    --query 'Reservations[].Instances[].[InstanceId,State.Name]')
[[ -z $instance ]] || found=$(grep -w -- "$instance" <<<"$found" || true)
[[ -n $found ]] || fail "no instance with the tag $tag${instance:+ is $instance} in this region; look at AWS_REGION and AWS_PROFILE, or at terraform apply"

running=$(awk '$2 == "running" { print $1 }' <<<"$found")
if [[ -z $running ]]; then
    read -r id state <<<"$found"
    fail "$id is $state. This wakes nothing. A prompt does: tlfif infer 'Hello.' So does, past the budget's guard,
  aws ec2 start-instances --instance-ids $id
It stops itself once it is idle; whether anybody has a shell on it does not count."
fi
((1 == $(wc -l <<<"$running"))) || fail "several run: ${running//$'\n'/, }; say which with -i"

online=$(ask ssm describe-instance-information --filters "Key=InstanceIds,Values=$running" \
    --query 'InstanceInformationList[].PingStatus')
[[ $online == Online ]] || fail "$running runs, and Systems Manager does not hear from it (${online:-never seen}). That
takes a minute after a start. If it lasts: the instance needs its role, and an SSM agent of October 2025 or later that
speaks IPv6, or an IPv4 address (terraform apply -var gpu_public_ipv4=true)."

rm -f "$complaint" # a program that takes the place of this one sets off no trap
if [[ $what == shell ]]; then
    exec aws ssm start-session --target "$running"
fi
exec aws ssm start-session --target "$running" --document-name AWS-StartPortForwardingSession \
    --parameters "{\"portNumber\": [\"$2\"], \"localPortNumber\": [\"${3:-$2}\"]}"
