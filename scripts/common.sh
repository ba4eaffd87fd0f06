# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# What the scripts share. Source it after `set -euo pipefail`; it changes to the checkout's root.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 1
}

# One compiler per core, but no more than memory holds: the largest file takes about 1.5 GiB.
build_jobs() {
  local by_memory by_cores
  by_memory=$(awk '/^MemAvailable/ {print int($2 / 1024 / 1536)}' /proc/meminfo)
  by_cores=$(nproc)
  local jobs=$((by_memory < by_cores ? by_memory : by_cores))
  echo $((jobs > 0 ? jobs : 1))
}

# build PRESET [-DNAME=VALUE...] [-- TARGET...]: configures and builds.
build() {
  local preset=$1 options=() targets=()
  shift
  while (($#)) && [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  if (($#)); then targets=(--target "${@:2}"); fi
  if command -v ccache >/dev/null; then export CMAKE_CXX_COMPILER_LAUNCHER=ccache; fi
  local log
  log=$(cmake --preset "$preset" "${options[@]}" 2>&1) || die "cmake --preset $preset failed:"$'\n'"$log"
  cmake --build --preset "$preset" --parallel "$(build_jobs)" "${targets[@]}"
}

# Sets LOCKSTEP_DATA_DIR, if it is unset, to a data folder beside the checkout, if there is one.
find_data() {
  if [[ -z ${LOCKSTEP_DATA_DIR:-} && -d ../shared/data ]]; then
    LOCKSTEP_DATA_DIR=$(cd ../shared/data && pwd)
  fi
  export LOCKSTEP_DATA_DIR=${LOCKSTEP_DATA_DIR:-}
}
