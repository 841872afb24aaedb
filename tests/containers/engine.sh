#!/usr/bin/env bash
# A container engine of the tests' own on a bare Debian 12, without systemd, with both images built: engine.sh up | down
# As root. Debian 12's compose is version 1, so version 2, which is a single file, comes from Debian 13. No image is pulled:
# python:3.11-slim is made here of Debian's packages. Exit code 69: no engine can be had or started here, and why.
set -euo pipefail
export WORK=${CONTAINERS_WORK:-/var/tmp/clip-containers}
export DOCKER_HOST=unix://$WORK/engine/sock DOCKER_CONFIG=$WORK/client DEBIAN_FRONTEND=noninteractive
ROOT=$(realpath "$(dirname "$0")/../..")

step() { printf '%4d s  %s\n' $SECONDS "$*"; }
unavailable() { echo "no container engine here: $*"; exit 69; }
mirror() { apt-get indextargets --format '$(REPO_URI) $(RELEASE)' | awk '$2 == "bookworm" {print $1; exit}'; }

install_engine() {
    [ "$(id -u)" = 0 ] || unavailable "this is not root"
    grep -qs '^VERSION_CODENAME=bookworm' /etc/os-release || unavailable "this is not Debian 12"
    if ! [ -x /usr/sbin/dockerd ] || ! command -v mmdebstrap iptables > /dev/null; then
        apt-get -qq update || unavailable "Debian's packages cannot be reached"
        apt-get -qq -y --no-install-recommends install docker.io mmdebstrap iptables ca-certificates > /dev/null \
            || unavailable "docker.io cannot be installed"
    fi
    local plugin=$DOCKER_CONFIG/cli-plugins/docker-compose apt=$WORK/apt
    if [ -x "$plugin" ]; then return; fi
    mkdir -p "${plugin%/*}" "$apt"/{lists,archives}/partial
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $(mirror) trixie main" > "$apt/trixie.list"
    local get=(apt-get -qq -o Dir::Etc::sourcelist="$apt/trixie.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$apt/lists"
               -o Dir::Cache::archives="$apt/archives" -o APT::Sandbox::User=root)
    "${get[@]}" update || unavailable "Debian 13's packages cannot be reached"
    (cd "$apt" && "${get[@]}" download docker-compose/trixie) || unavailable "docker-compose cannot be downloaded"
    dpkg-deb --fsys-tarfile "$apt"/docker-compose_2*.deb | tar -xO ./usr/libexec/docker/cli-plugins/docker-compose > "$plugin.new"
    chmod +x "$plugin.new"
    mv "$plugin.new" "$plugin"
}

start_engine() {
    if docker version > /dev/null 2>&1; then return; fi
    mkdir -p "$WORK/engine"
    setsid nohup dockerd -H "$DOCKER_HOST" --data-root "$WORK/engine/root" --exec-root "$WORK/engine/exec" \
        --pidfile "$WORK/engine/pid" > "$WORK/engine/log" 2>&1 < /dev/null 9>&- &
    for _ in $(seq 120); do
        docker version > /dev/null 2>&1 && return
        kill -0 $! 2> /dev/null || break
        sleep 0.5
    done
    unavailable "$(grep -vE 'level=(info|debug)' "$WORK/engine/log" | tail -n 1)"
}

# Stands in for the hub's python:3.11-slim: Debian 12's Python, with this machine's certificates and, where its pip has
# one, its folder of wheels, which the CPU build of PyTorch may come from.
make_base() {
    if docker image inspect python:3.11-slim > /dev/null 2>&1; then return; fi
    local wheels extra=() change='ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt'
    wheels=$(python3 -m pip config get global.find-links 2> /dev/null || true)
    if [ -d "$wheels" ]; then
        extra=(--customize-hook="mkdir -p \"\$1\"$wheels" --customize-hook="copy-in $wheels $(dirname "$wheels")")
        change+=" PIP_FIND_LINKS=$wheels"
    fi
    # A sandbox may run an engine that can start no container: that is found here, before the long part.
    mmdebstrap --quiet --variant=minbase --include=python3-pip,ca-certificates \
        --customize-hook='rm "$1"/usr/lib/python3.11/EXTERNALLY-MANAGED; ln -s /usr/bin/python3 "$1"/usr/local/bin/python' \
        --customize-hook='upload /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt' "${extra[@]}" \
        bookworm "$WORK/base.tar" "$(mirror)" > "$WORK/base.log" 2>&1 \
        || unavailable "no base image can be made: $(tail -n 1 "$WORK/base.log")"
    docker import --change "$change" "$WORK/base.tar" python:3.11-slim > /dev/null
    rm "$WORK/base.tar"
    docker run --rm python:3.11-slim true > "$WORK/run.log" 2>&1 || {
        docker image rm python:3.11-slim > /dev/null
        unavailable "it starts no container: $(tail -n 1 "$WORK/run.log")"
    }
}

case ${1:-} in
up)
    mkdir -p "$WORK"
    exec 9> "$WORK/lock"
    flock 9
    install_engine
    start_engine
    step "engine $(docker version --format '{{.Server.Version}}'), compose $(docker compose version --short)"
    make_base
    step "base image"
    cd "$ROOT"
    docker compose --progress plain build > "$WORK/build.log" 2>&1 || { tail -n 20 "$WORK/build.log"; exit 1; }
    step "both images" ;;
down)
    if [ -e "$WORK/engine/pid" ]; then
        kill "$(cat "$WORK/engine/pid")"
        while [ -e "$WORK/engine/pid" ]; do sleep 0.2; done
    fi ;;
*)
    echo "usage: engine.sh up|down" >&2
    exit 2 ;;
esac
