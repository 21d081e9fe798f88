#!/usr/bin/env bash
# Installs what the testbed needs: Debian packages (only those missing) and a virtual environment at .venv.
# Idempotent; a second run takes well under a second because a stamp holds the checksum of what it read.
set -euo pipefail
cd "$(dirname "$0")/.."

# name of a program or file -> the Debian package that brings it
needs=(
  "/usr/bin/mnexec mininet"
  "/usr/sbin/ovs-vswitchd openvswitch-switch"
  "/sbin/ip iproute2"
  "/usr/bin/ping iputils-ping"
  "/usr/bin/iperf3 iperf3"
  "/usr/bin/sockperf sockperf"
  "/usr/sbin/nft nftables"
  "/usr/sbin/iptables-restore iptables"
  "/usr/sbin/conntrack conntrack"
  "/usr/sbin/ethtool ethtool"
  "/usr/sbin/nginx nginx-light"
  "/usr/lib/nginx/modules/ngx_http_lua_module.so libnginx-mod-http-lua"
  "/usr/bin/busybox busybox"
  "/usr/bin/unshare util-linux"
  "/usr/sbin/knotd knot"
  "/usr/bin/kdig knot-dnsutils"
  "/usr/bin/curl curl"
  "/usr/bin/redis-server redis-server"
  "/usr/bin/kubectl kubernetes-client"
  "/usr/bin/chromium chromium"
)

step() { printf '\033[1m==>\033[0m %s\n' "$*"; }

missing=()
for need in "${needs[@]}"; do
  read -r program package <<<"$need"
  [ -e "$program" ] || missing+=("$package")
done

# The interpreter: Debian's own where it is new enough, else whatever python3 is on the PATH.
python=""
for candidate in ${TESTBED_PYTHON:-} /usr/bin/python3 python3; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || missing+=(python3)
"${python:-false}" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)

if [ ${#missing[@]} -gt 0 ]; then
  step "Debian packages: ${missing[*]}"
  as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "missing: ${missing[*]}; as root run: apt-get install ${missing[*]}" >&2; exit 3; }
    as_root=(sudo)
  fi
  # The testbed starts its own daemons inside its box, so the packages' services are not to be started on the machine.
  # A policy that is already there is left as it is.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    trap '"${as_root[@]}" rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee "$policy" >/dev/null
    "${as_root[@]}" chmod 755 "$policy"
  fi
  "${as_root[@]}" apt-get update -q
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}"
  python=${python:-/usr/bin/python3}
fi

stamp=.venv/.installed
want=$(cat requirements/*.lock requirements/build-constraints.txt setup.py pyproject.toml scripts/setup.sh | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && [ -x .venv/bin/testbed ]; then
  exit 0
fi

step "virtual environment .venv ($("$python" --version))"
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input)
step "Python packages, pinned with hashes"
"${pip[@]}" install --quiet --progress-bar on --require-hashes --no-deps -r requirements/requirements.lock
# Ryu 4.34 builds only with an old setuptools. pip before 25.3 reads the first variable for builds, later ones the second.
step "Ryu, built from source"
constraints=$PWD/requirements/build-constraints.txt
PIP_CONSTRAINT=$constraints PIP_BUILD_CONSTRAINT=$constraints \
  "${pip[@]}" install --quiet --use-pep517 --require-hashes --no-deps -r requirements/ryu.lock
# Where another kubectl is installed, the tests run Debian's, too: it is of another generation.
if ! dpkg -s kubernetes-client >/dev/null 2>&1; then
  step "Debian's kubectl, for the tests, in .venv/kubernetes-client"
  (cd .venv && apt-get download -q kubernetes-client && dpkg -x kubernetes-client_*.deb kubernetes-client \
    && rm kubernetes-client_*.deb)
fi
step "the testbed itself"
"${pip[@]}" install -q --no-deps --no-build-isolation -e .
printf '%s\n' "$want" >"$stamp"
step "ready: .venv/bin/testbed"
