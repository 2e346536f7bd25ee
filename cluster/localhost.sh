#!/usr/bin/env bash
# A Slurm of one node on this machine, as root, to try out what docs/cluster.md describes.
#
#   cluster/localhost.sh start FOLDER    daemons, whose files are all in FOLDER; two jobs at a time
#   export SLURM_CONF=FOLDER/slurm.conf
#   srun hostname
#   cluster/localhost.sh stop FOLDER
set -euo pipefail

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -eq 2 ] || usage
action=$1 folder=$(realpath -m "$2")

stop() {
  for name in slurmd slurmctld munged; do
    [ -s "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null || true
  done
}

start() {
  for program in munged slurmctld slurmd srun; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null || {
      echo "$program is not installed; on Debian: apt-get install slurm-wlm munge" >&2; exit 1; }
  done
  [ "$(id -u)" = 0 ] || { echo "slurmd starts jobs for others and has to run as root" >&2; exit 1; }
  mkdir -p "$folder/state" "$folder/spool"
  chmod 755 "$folder"
  [ -s "$folder/munge.key" ] || (umask 077; head -c 128 /dev/urandom > "$folder/munge.key")
  # Ports of its own, so that it gets in no other's way; free ones, as the system gives them out.
  read -r controller node < <(python3 -c "
import socket
held = [socket.create_server(('127.0.0.1', 0)) for _ in range(2)]
print(*[s.getsockname()[1] for s in held])")
  cat > "$folder/slurm.conf" <<CONF
ClusterName=localhost
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$controller
SlurmdPort=$node
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
# No cgroups, no accounting: nothing of the machine's is touched.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_interval=1
# A job that was requeued may start again at once rather than after two minutes.
JobRequeue=1
KillWait=30
MinJobAge=60
ReturnToService=2
# Two CPUs whatever the machine has: two jobs side by side.
NodeName=$(hostname) NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
SlurmdParameters=config_overrides
CONF
  export SLURM_CONF=$folder/slurm.conf PATH=$PATH:/usr/sbin
  munged --force --key-file "$folder/munge.key" --socket "$folder/munge.socket" \
    --pid-file "$folder/munged.pid" --log-file "$folder/munged.log" --seed-file "$folder/munge.seed"
  slurmctld
  slurmd
  for _ in $(seq 60); do
    if [ "$(sinfo -h -o %t 2>/dev/null)" = idle ]; then
      echo "export SLURM_CONF=$folder/slurm.conf"
      return
    fi
    sleep 0.5
  done
  tail -n 5 "$folder"/slurm*.log >&2
  stop
  echo "Slurm did not come up within half a minute; its logs are in $folder" >&2
  exit 1
}

case $action in
  start) start ;;
  stop) stop ;;
  *) usage ;;
esac
