#!/usr/bin/env bash
# Makes a virtual environment, and as root on Debian the Python that it needs.
#
#   venv.sh FOLDER        PYTHON names another interpreter than python3
#
# Exit codes: 0 the environment is there, 2 wrong usage, 8 not possible here; the sentence on stderr says why.
set -euo pipefail

PYTHON=${PYTHON:-python3}

say() { printf 'venv: %s\n' "$*" >&2; }
die() { say "$1"; exit "${2:-8}"; }

can_make_one() { "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; }
is_new_enough() { "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; }

install_python() {
  local wanted="\`$PYTHON\` that can make virtual environments"
  [ "$PYTHON" = python3 ] && command -v apt-get >/dev/null || die "there is no $wanted: install one, or name it with PYTHON=…"
  [ "$(id -u)" = 0 ] || die "there is no $wanted: run \`apt-get install python3-venv\` as root"
  say 'installing python3-venv'
  {
    apt-get -q -o Acquire::Retries=3 update
    DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 install --no-install-recommends python3-venv ca-certificates
  } >&2 || die 'apt could not do this; its own message is above'
}

[ $# = 1 ] || die 'usage: venv.sh FOLDER' 2
can_make_one || install_python
is_new_enough || die "\`$PYTHON\` is $("$PYTHON" --version), and 3.11 or newer is needed: name one with PYTHON=…"
"$PYTHON" -m venv "$1"
