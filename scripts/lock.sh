#!/usr/bin/env bash
# Pins the newest versions that requirements/requirements.in allows, with hashes, for Python 3.10 and later.
set -euo pipefail
cd "$(dirname "$0")/../requirements"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet uv
"$work/env/bin/uv" pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-header \
  --build-constraints build-constraints.txt requirements.in -o "$work/all.lock"
# Ryu's entry goes to a file of its own: only its build needs the constraint.
awk -v lock=requirements.lock -v ryu=ryu.lock '
  BEGIN {
    print "# Pinned with hashes. Made by `make lock` from requirements.in; do not edit." > lock
    print "# Ryu has a file of its own because only its build needs build-constraints.txt. Made by `make lock`." > ryu
  }
  /^[a-z]/ { target = /^ryu==/ ? ryu : lock }
  { print > target }
' "$work/all.lock"
