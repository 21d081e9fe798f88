#!/usr/bin/env bash
# Boots a stock Debian kernel over this machine's root file system, which the guest cannot write to, and runs there what
# needs the kernel's Open vSwitch, netem, IPVS or SCTP: `doctor`, the smoke experiment, the tests of mode switching and of
# Services.
# The machine's own kernel and /boot are not touched: the kernel is unpacked below .vm.
# Ends with 0 when all of it passed, 1 when something did not, 3 when this machine cannot do it.
set -euo pipefail
cd "$(dirname "$0")/.."

# Emulation without hardware support takes about ten times as long as a real machine.
limit_s=${TESTBED_VM_TIMEOUT_S:-3600}
cache=$PWD/.vm
kernel_root=$cache/kernel
virtme=$cache/virtme
unpacked=$cache/.unpacked

step() { printf '\033[1m==>\033[0m %s\n' "$*"; }
cannot() { printf 'test-vm: %s\n' "$*" >&2; exit 3; }

[ "$(id -u)" -eq 0 ] || cannot "it needs root: sudo make test-vm"
[ "$(uname -m)" = x86_64 ] || cannot "it is made for x86_64 machines, this is $(uname -m)"
command -v apt-get >/dev/null || cannot "the kernel comes as a Debian package, and there is no apt-get here"

# Fetches Debian packages into a directory without installing them.
fetch() {
  (cd "$1" && shift && apt-get -q -o APT::Sandbox::User=root download "$@" >/dev/null)
}

needed=()
command -v qemu-system-x86_64 >/dev/null || needed+=(qemu-system-x86)
command -v modprobe >/dev/null || needed+=(kmod)
command -v ipvsadm >/dev/null || needed+=(ipvsadm)
command -v ipset >/dev/null || needed+=(ipset)
if [ ${#needed[@]} -gt 0 ]; then
  step "Debian packages: ${needed[*]}"
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${needed[@]}"
fi

mkdir -p "$cache"
echo '*' >"$cache/.gitignore"
if [ ! -e "$unpacked" ]; then
  rm -rf "$kernel_root"
  mkdir -p "$kernel_root/deb"
  apt-cache show linux-image-amd64 >/dev/null 2>&1 || apt-get update -q
  image=$(apt-cache depends linux-image-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-/ {print $2; exit}')
  [ -n "$image" ] || cannot "apt knows no linux-image-amd64"
  step "unpacking $image below .vm"
  # The statically linked busybox runs the first steps of the guest; its package would push out the busybox that pods use.
  fetch "$kernel_root/deb" "$image" busybox-static
  for package in "$kernel_root"/deb/*.deb; do
    dpkg -x "$package" "$kernel_root"
  done
  rm -r "$kernel_root/deb"
  touch "$unpacked"
fi
kernel=$(echo "$kernel_root"/boot/vmlinuz-*)

if ! cmp -s requirements/vm.lock "$virtme/vm.lock"; then
  step "virtme-ng"
  rm -rf "$virtme"
  .venv/bin/python -m pip --disable-pip-version-check install --quiet --no-deps --require-hashes --target "$virtme" \
    -r requirements/vm.lock
  cp requirements/vm.lock "$virtme/vm.lock"
fi

# /dev/kvm may be there and yet run no guest, so a machine without a kernel is tried: its monitor must answer.
# QEMU's own processor model promises AVX, which QEMU 7.2 emulates with faults that numpy dies of. Nehalem has none, and
# just what numpy demands.
accelerator=(--disable-kvm --qemu-opt=-cpu --qemu-opt=Nehalem)
how="plain emulation, no usable KVM"
# (QEMU may abort; the subshell's own exit keeps bash from saying so.)
if (timeout 10 qemu-system-x86_64 -accel kvm -cpu host -S -display none -serial none -monitor stdio <<<quit; exit $?) \
  >/dev/null 2>&1; then
  accelerator=()
  how="KVM"
fi

out=$PWD/results/test-vm/$(date -u +%Y-%m-%dT%H-%M-%SZ)
mkdir -p "$out"
ln -sfn "$(basename "$out")" results/test-vm/latest
touch "$out/guest.log"

# The guest sees the root file system read-only, with throw-away layers over what programs write to; only $out is
# shared for writing. It is shared a second time for tests/vm/guest.sh to mount it with a cache. Without the
# clock source tsc each look at the clock costs an emulated machine 40 us, which no measurement survives.
boot=(
  --kimg "$kernel" --mods auto --busybox "$kernel_root/bin/busybox" --name testbed-vm
  --cpus 2 --memory 3G "${accelerator[@]}" --disable-microvm --force-9p
  --rwdir "/tmp/testbed-out=$out" --rodir "/tmp/testbed-root=/"
  --overlay-rwdir /etc --overlay-rwdir /lib --overlay-rwdir /tmp --overlay-rwdir /usr --overlay-rwdir /var
  --show-boot-console -a panic=-1 -a tsc=reliable -a clocksource=tsc -a mitigations=off
  --cwd / --script-sh "bash $PWD/tests/vm/guest.sh $PWD"
)

step "booting $(basename "$kernel") ($how), at most $limit_s s; everything goes to ${out#"$PWD"/}"
# The guest ends with this script, even if that is killed.
PYTHONPATH=$virtme setpriv --pdeathsig TERM timeout --kill-after=10 "$limit_s" \
  .venv/bin/python -m virtme.commands.run "${boot[@]}" </dev/null >"$out/console.log" 2>&1 &
machine=$!
trap 'kill "$machine" 2>/dev/null || true; exit 130' INT TERM
tail -n +1 -f --pid="$machine" "$out/guest.log" &
follower=$!
machine_status=0
wait "$machine" || machine_status=$?
wait "$follower"
[ "$machine_status" -ne 124 ] || echo "test-vm: the guest was ended after $limit_s s" >&2

step "the outcome"
exec .venv/bin/python -m tests.vm.outcome "$out" --accelerator "$how"
