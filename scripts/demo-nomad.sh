#!/usr/bin/env bash
# Two versions that change places under load on a Nomad agent, and everything away again: `make demo-nomad` calls this
# with mlops-deploy on PATH. It needs `nomad` there too, and the rights that an agent with Docker tasks needs: root's.
#
# The agent is its own, on loopback and free ports, with all it has in a temporary folder; a cluster that NOMAD_ADDR may
# name is not asked. What it starts it removes, whatever happens; what makes the next run quick stays, as of `make demo`.
#
# Exit codes: 0 no request failed, 1 one did or something else went wrong, 8 there is no `nomad` or no Docker Engine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly WORK=$PWD/.demo/nomad READY=60
AGENT='' FOLDER=''
. scripts/demo_parts.sh

# Each thing is tried whatever became of the one before, and the code with which the demo ends stays.
clean_up() {
  local code=$?
  trap - EXIT
  trap '' INT TERM
  end_load
  remove_released || code=1
  end_agent || code=1
  end_engine || code=1
  exit "$code"
}

# Nobody's cluster but this agent, whatever the environment says. It has a session of its own, for Ctrl-C must not end it
# before what it runs is removed.
start_agent() {
  local name
  for name in "${!NOMAD_@}"; do unset "$name"; done
  FOLDER=$(mktemp -d)
  configure >"$FOLDER/agent.hcl"
  NOMAD_ADDR=http://127.0.0.1:$(awk '$1 == "http" { print $3 }' "$FOLDER/agent.hcl")
  export NOMAD_ADDR
  say "a Nomad agent for this demo, server and client in one, at $NOMAD_ADDR"
  printf '$ nomad agent -dev -config=%s\n' "$FOLDER/agent.hcl"
  setsid nomad agent -dev -config="$FOLDER/agent.hcl" >"$FOLDER/log" 2>&1 &
  AGENT=$!
}

# Images that were built here have no registry from which they could come back, so none is collected; containers may be
# another agent's, so none is swept; clouds that are asked who we are let everybody wait.
configure() {
  cat <<EOF
data_dir             = "$FOLDER/data"
disable_update_check = true
log_level            = "INFO"
ports {
  http = $(free_port)
  rpc  = $(free_port)
  serf = $(free_port)
}
client {
  options = {
    "fingerprint.denylist" = "env_aws,env_gce,env_azure,env_digitalocean"
  }
}
plugin "docker" {
  config {
    gc {
      image = false
      dangling_containers {
        enabled = false
      }
    }
  }
}
consul {
  auto_advertise = false
}
EOF
}

# A port that answers is not yet a node that takes jobs.
await_agent() {
  local until=$((SECONDS + READY))
  until nomad node status 2>/dev/null | grep -q ' ready$'; do
    kill -0 "$AGENT" 2>/dev/null || give_up 'the agent ended'
    [ "$SECONDS" -lt "$until" ] || give_up "the agent has no node that is ready after $READY s"
    sleep 0.2
  done
}

give_up() { tail -n 20 "$FOLDER/log" >&2; die "$1; its last lines are above"; }

# An agent of this kind tells its tasks to end when it ends, but does not wait for them.
end_agent() {
  local left mount
  [ -n "$AGENT" ] || return 0
  say 'ending the agent'
  kill "$AGENT" 2>/dev/null && wait "$AGENT" || true
  AGENT=''
  left=$(containers) || true # one that went away meanwhile
  [ -z "$left" ] || docker rm --force --volumes $left >/dev/null || true
  for mount in $(awk -v folder="$FOLDER/" 'index($2, folder) == 1 { print $2 }' /proc/mounts | sort -r); do
    umount "$mount" || return
  done
  rm -rf "$FOLDER"
}

containers() {
  docker ps --all --quiet --filter label=com.hashicorp.nomad.alloc_id |
    xargs --no-run-if-empty docker inspect --format '{{.Id}}{{range .Mounts}} {{.Source}}{{end}}' 2>/dev/null |
    awk -v folder=" $FOLDER/" 'index($0, folder) { print $1 }'
}

trap clean_up EXIT
trap 'exit 130' INT TERM

command -v nomad >/dev/null ||
  die 'there is no `nomad` on the PATH: put it there (https://developer.hashicorp.com/nomad/install); `make demo` needs none' 8
prepare_files
prepare_engine || die 'no Docker Engine can be had, and the tasks need one' 8
start_agent
train
build_carrier
build_server
await_agent
release_first nomad
predict
release_under_load
go_on "  sudo mkdir -p /srv/models
  sudo nomad agent -dev -config=$PWD/examples/nomad-by-hand/agent.hcl &
  mlops-deploy release --target nomad
  curl -d @request.json localhost:8080/v2/models/digits/infer
  mlops-deploy status --target nomad
  mlops-deploy down --target nomad --volumes"
