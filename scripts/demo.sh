#!/usr/bin/env bash
# From nothing to a prediction, then two versions that change places under load, and everything away again: `make demo`
# calls this with mlops-deploy on PATH.
#
# It works in .demo/ and under the name `digits-demo`, on a free port. What it starts it removes, whatever happens; an
# engine that it had to start ends too, unless KEEP_ENGINE=1. What makes the next run quick stays: .demo/, images, and
# packages of the system. Where no Docker Engine can be had, it goes on with processes of this machine, and says so.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly PROJECT=digits-demo WORK=$PWD/.demo/digits
export XDG_STATE_HOME=$PWD/.demo/state
SERVER='' COMPOSE=''
. scripts/demo_parts.sh

# Each thing is tried whatever became of the one before, and the code with which the demo ends stays.
clean_up() {
  local code=$?
  trap - EXIT
  trap '' INT TERM
  end_load
  stop_server
  stop_compose || code=1
  remove_released || code=1
  end_engine || code=1
  exit "$code"
}

stop_server() {
  [ -n "$SERVER" ] || return 0
  kill "$SERVER" 2>/dev/null && wait "$SERVER" || true
  SERVER=''
}

stop_compose() {
  [ -n "$COMPOSE" ] || return 0
  say 'removing the containers, the volume and the network'
  docker compose --progress quiet -f "$COMPOSE" down --volumes --timeout 5 || return
  COMPOSE=''
}

require_alone() {
  local project there=()
  for project in "$PROJECT" "$PROJECT-a" "$PROJECT-b" "$PROJECT-router"; do
    [ -z "$(docker ps --all --quiet --filter "label=com.docker.compose.project=$project")" ] ||
      there+=("\`docker compose -p $project down --volumes\`")
  done
  [ "${#there[@]}" = 0 ] ||
    die "\`$PROJECT\` is there already, by another demo or left by one that was killed: ${there[*]}"
}

start_in_docker() {
  require_alone
  build_carrier
  build_server
  say 'the Compose file: bootstrap, volume, server, and a health check that asks for a prediction'
  run mlops-deploy render -e demo -o compose.yml
  say 'start'
  COMPOSE=$WORK/compose.yml
  run docker compose --progress quiet -f compose.yml up --wait
}

start_as_process() {
  build_carrier
  say 'the server as a process of this machine: its environment is made once (minutes the first time)'
  printf '$ mlops-deploy serve -e demo digits\n'
  (cd "$WORK" && exec mlops-deploy serve -e demo digits >address) &
  SERVER=$!
  until [ -s "$WORK/address" ]; do # serve prints it once the golden request is answered
    kill -0 "$SERVER" 2>/dev/null || { SERVER=''; die 'the server ended; its own message is above'; }
    sleep 0.2
  done
}

trap clean_up EXIT
trap 'exit 130' INT TERM

prepare_files
train
if prepare_engine; then
  start_in_docker
  predict
  stop_compose
  release_first docker
  release_under_load
  go_on '  mlops-deploy release
  curl -d @request.json localhost:8080/v2/models/digits/infer
  mlops-deploy status
  mlops-deploy inspect digits
  mlops-deploy down --volumes'
else
  start_as_process
  predict
  stop_server
  left=('building a server image' 'running both images with Compose')
  if command -v haproxy >/dev/null; then
    [ ! -e "$XDG_STATE_HOME/mlops-deploy/$PROJECT" ] ||
      die "\`$PROJECT\` is there already, left by a demo that was killed: \`cd .demo/digits && XDG_STATE_HOME=$XDG_STATE_HOME mlops-deploy down -e demo --target process --volumes --force\`"
    release_first process
    release_under_load
  else
    left+=('two versions that change places, because `haproxy` is not here either')
  fi
  go_on '  mlops-deploy serve digits
  curl -d @request.json localhost:8080/v2/models/digits/infer'
  printf '\nLeft out, because no Docker Engine could be had: %s.\n' "$(IFS=';'; sed 's/;/; /g' <<<"${left[*]}")"
fi
