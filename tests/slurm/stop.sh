#!/usr/bin/env bash
# Ends what start.sh started: jobs, slurmd, slurmctld, munged. The state and the logs stay.
set -uo pipefail
[ "$(id -u)" = 0 ] || { echo "stop.sh: run it as root (sudo $0)" >&2; exit 1; }

scontrol ping 2>/dev/null | grep -q 'is UP' && scancel --state=PENDING,RUNNING,SUSPENDED -u root 2>/dev/null
stop() {  # name, pid file: SIGTERM, and waits until it is gone
    local pid
    pid=$(cat "$2" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] || return 0
    kill "$pid"
    for _ in $(seq 40); do [ -d "/proc/$pid" ] || return 0; sleep 0.5; done
    echo "stop.sh: $1 (pid $pid) does not end" >&2
    return 1
}
stop slurmd /run/slurmd.pid
stop slurmctld /run/slurmctld.pid
stop munged /run/munge/munged.pid
