#!/usr/bin/env bash
# Runs inside the guest that scripts/test_vm.sh boots, as root: bash guest.sh PROJECT
# Every step leaves a line "<name> <status> <seconds>" in steps.tsv; what it printed is in guest.log. Whether that is
# enough is decided on the host, by tests/vm/outcome.py.
set -uo pipefail
project=$1
out=/tmp/testbed-out
exec >>"$out/guest.log" 2>&1 </dev/null

step() { # NAME LIMIT COMMAND...: runs one step and notes how it ended
  local name=$1 limit_s=$2 status=0 started=$SECONDS
  shift 2
  echo "==> [$(cut -d. -f1 /proc/uptime) s] $name"
  timeout --kill-after=10 "$limit_s" "$@" || status=$?
  printf '%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - started))" >>"$out/steps.tsv"
}

# virtme mounts the host's files without a cache, so that every program start reads its libraries anew. What the steps
# run is mounted again with one: nobody changes it meanwhile.
cached_files() {
  set -e
  local modules
  modules=$(readlink "/lib/modules/$(uname -r)")
  local device
  device=$(awk '$2 == "/tmp/testbed-root" {print $1}' /proc/mounts)
  umount /tmp/testbed-root
  mkdir -p /run/host /run/usr/upper /run/usr/work
  mount -t 9p -o ro,trans=virtio,version=9p2000.L,access=any,msize=512000,cache=loose "$device" /run/host
  mount -t overlay -o lowerdir=/run/host/usr,upperdir=/run/usr/upper,workdir=/run/usr/work usr /usr
  mkdir -p /usr/lib/modules
  ln -sfn "$modules" "/usr/lib/modules/$(uname -r)"
  mount --bind "/run/host$project" "$project"
}

# The testbed loads no modules, and a rootless box cannot make the kernel load them. (What iptables-restore, nft, ipvsadm
# and ipset need beyond these they have the kernel load, which it does for root.)
modules() {
  modprobe -a openvswitch sch_netem sch_tbf vxlan veth bridge tun ip_vs nf_conntrack nf_tables sctp overlay
}

# Open vSwitch 3.1 loses every upcall of the kernel datapath when it starts within 10 s of the boot.
settled() {
  until [ "$(cut -d. -f1 /proc/uptime)" -gt 10 ]; do sleep 1; done
}

# In a function, so that bash has read all of it before anything runs: the file may change on the host meanwhile.
main() {
  export PYTHONDONTWRITEBYTECODE=1 COLUMNS=110 MPLCONFIGDIR=/tmp/matplotlib
  export -f cached_files modules settled
  export project
  uname -srvm
  step "kernel modules" 60 bash -c modules
  step "cached files" 60 bash -c cached_files
  step "10 s of uptime" 30 bash -c settled
  cd "$project" || exit 1
  step "doctor" 200 .venv/bin/testbed doctor
  step "services" 1700 .venv/bin/python -m pytest -v -rA -p no:cacheprovider --junit-xml="$out/services.xml" \
    tests/vm/kernel_services.py
  step "smoke experiment" 900 .venv/bin/testbed run experiments/smoke.yaml --datapath kernel \
    --set topology.links.access.delay=1ms -o "$out/smoke" --junit "$out/smoke.xml"
  step "limits" 500 .venv/bin/python -m pytest -v -p no:cacheprovider --durations=0 --junit-xml="$out/limits.xml" \
    tests/box/test_limits.py
  step "mode switching" 1200 .venv/bin/python -m pytest -v -p no:cacheprovider --durations=0 --junit-xml="$out/tests.xml" \
    tests/vm/kernel_datapath.py \
    "tests/box/test_cluster.py::test_pods_and_nodes_reach_each_other_without_nat[root]" \
    "tests/box/test_cluster.py::test_pods_have_the_mtu_of_the_mode" \
    "tests/box/test_controller.py::test_modes_are_switched_without_losing_a_packet" \
    "tests/box/test_controller.py::test_packets_take_the_way_of_the_mode" \
    "tests/box/test_controller.py::test_a_bridge_that_reconnects_is_brought_back_to_the_exact_state"
  echo "==> [$(cut -d. -f1 /proc/uptime) s] done"
}

main; exit 0
