#!/usr/bin/env bash
# A one-node SLURM on this machine, from Debian's packages: enough to see a sweep start, be preempted and go on.
# As root, on a Debian or Ubuntu without systemd (a container, a CI machine). Run again, it mends what is not running.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "start.sh: run it as root (sudo $0)" >&2; exit 1; }

if ! { command -v slurmctld && command -v slurmd && command -v srun && command -v munged; } >/dev/null; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge
fi

# munge signs what the daemons and commands say to each other. The package makes its key; it wants folders of its own.
install -d -o munge -g munge -m 755 /run/munge
install -d -o munge -g munge -m 700 /etc/munge /var/lib/munge /var/log/munge
[ -s /etc/munge/munge.key ] || install -o munge -g munge -m 400 <(head -c 1024 /dev/urandom) /etc/munge/munge.key
munge -n >/dev/null 2>&1 || setpriv --reuid=munge --regid=munge --clear-groups munged --force
for _ in $(seq 20); do munge -n 2>/dev/null | unmunge >/dev/null 2>&1 && break; sleep 0.5; done

host=$(hostname -s)
memory=$(awk '/^MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)  # MB; a node with less than it claims is drained
install -d /etc/slurm /var/lib/slurm/ctld /var/lib/slurm/d /var/log/slurm
cat >/etc/slurm/slurm.conf <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until the credentials of its last start have run out: 120 s where nothing is said.
AuthInfo=cred_expire=10
StateSaveLocation=/var/lib/slurm/ctld
SlurmdSpoolDir=/var/lib/slurm/d
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
# No cgroups: they need systemd or privileges that a container lacks.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
# No data base: as on the poorest cluster, there is no sacct.
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
# Looks every 5 s for jobs that may start (60 where nothing is said), those whose waiting time is over among them.
SchedulerParameters=sched_interval=5,bf_interval=5
MpiDefault=none
ReturnToService=2
JobRequeue=1
# Seconds between SIGTERM and SIGKILL at cancellation, time limit and preemption.
KillWait=30
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
# SLURM counts the cores itself; where it finds hyperthreads or sockets it needs to be told, and then CPUs= is enough.

running() { [ -s "/run/$1.pid" ] && [ "$(cat "/proc/$(cat "/run/$1.pid")/comm" 2>/dev/null)" = "$1" ]; }
running slurmctld || slurmctld
running slurmd || slurmd
scontrol reconfigure >/dev/null 2>&1 || true  # takes over a slurm.conf that has changed

for _ in $(seq 60); do
    state=$(sinfo -h -o %t 2>/dev/null || true)
    case $state in
        idle | mix | alloc) echo "SLURM is up: $(sinfo -h -N -o '%N, %c cores, %m MB, %t')"; exit 0 ;;
        down* | drain* | unk*) scontrol update "NodeName=$host" State=RESUME >/dev/null 2>&1 || true ;;
    esac
    sleep 1
done
echo "start.sh: the node is not idle after a minute (state: ${state:-none}); see /var/log/slurm" >&2
exit 1
