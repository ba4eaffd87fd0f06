# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash disable=SC2154
# How gpu-check runs its steps, each within its time, and tells of them. It sources this with $lockstep, $out, $logs, $pack
# and $total_seconds set.
rows=() measures=() failed=0 missing=0 gpu=unknown
left() { echo $((total_seconds - SECONDS)); }
# Whatever is started has it in its environment: what hangs is found by it and killed.
export LOCKSTEP_GPU_CHECK=$$-$RANDOM

# Ends what is left of a step, other sessions' processes too, as a coordinator's workers are.
sweep() {
  local process
  for process in /proc/[0-9]*; do
    if grep -qzFx "LOCKSTEP_GPU_CHECK=$LOCKSTEP_GPU_CHECK" "$process/environ" 2>/dev/null; then
      kill -KILL "${process#/proc/}" 2>/dev/null || true
    fi
  done
}
# bounded SECONDS LOG COMMAND...: its exit status, or 124 where it took longer, or printed nothing for $stall seconds. A
# process that the kernel cannot kill, as one that waits for a broken driver, is left behind.
bounded() {
  local limit=$1 log=$2 status=0 pid end size=-1 grown=$SECONDS
  shift 2
  timeout --kill-after=5 "$limit" "$@" >"$log" 2>&1 </dev/null &
  pid=$! end=$((SECONDS + limit + 8))
  while kill -0 $pid 2>/dev/null && ((SECONDS < end)); do
    sleep 0.05
    if [[ -z ${stall:-} ]]; then continue; fi
    if [[ $(stat -c %s "$log") != "$size" ]]; then size=$(stat -c %s "$log") grown=$SECONDS; fi
    if ((SECONDS - grown > stall)); then
      kill -TERM $pid 2>/dev/null || true
      end=$((SECONDS + 8)) grown=$end
      status=124
    fi
  done
  if kill -0 $pid 2>/dev/null; then
    echo "gpu-check: cannot be killed" >>"$log"
    return 124
  fi
  if ((status != 0)); then
    wait $pid || true
  else
    wait $pid || status=$?
  fi
  if ((status == 137)); then status=124; fi
  return $status
}

escape() { sed 's/\\/\\\\/g; s/"/\\"/g; s/[[:cntrl:]]/ /g' <<<"$1" | tr -d '\n'; }
write_results() {
  local name result seconds note steps samples comma=
  printf '{\n  "gpu": "%s",\n  "lockstep": "%s",\n  "seconds": %d,\n  "checks": [' "$(escape "$gpu")" \
    "$(escape "$(timeout 20 "$lockstep" version 2>&1)")" "$SECONDS"
  for entry in ${rows[@]+"${rows[@]}"}; do
    IFS='|' read -r name result seconds note <<<"$entry"
    printf '%s\n    {"name": "%s", "result": "%s", "seconds": %s, "note": "%s"}' "$comma" "$(escape "$name")" "$result" \
      "$seconds" "$(escape "$note")"
    comma=,
  done
  printf '\n  ],\n  "benchmarks": ['
  comma=
  for entry in ${measures[@]+"${measures[@]}"}; do
    IFS='|' read -r name steps samples <<<"$entry"
    printf '%s\n    {"name": "%s", "steps_per_second": %s, "samples_per_second": %s}' "$comma" "$(escape "$name")" \
      "$steps" "$samples"
    comma=,
  done
  printf '\n  ]\n}\n'
}
# However this ends: what is known is written and printed.
finish() {
  local status=$? name result seconds note
  trap - EXIT INT TERM HUP
  sweep
  write_results >"$out/results.json"
  rm -rf "$out/work"
  if [[ -n $pack ]]; then tar -C "$out" -czf "$out/logs.tar.gz" logs && rm -rf "$logs"; fi
  printf '\n%s\n%-44s %-8s %8s  %s\n' "$gpu" CHECK RESULT SECONDS NOTE
  for entry in ${rows[@]+"${rows[@]}"}; do
    IFS='|' read -r name result seconds note <<<"$entry"
    printf '%-44s %-8s %8s  %s\n' "$name" "$result" "$seconds" "$note"
  done
  echo "$SECONDS s in all; $out/results.json"
  if ((status != 0)); then exit "$status"; fi
  if ((failed)); then exit 1; fi
  if ((missing)); then
    echo "Some checks could not be run here; nothing that ran failed."
    exit 3
  fi
}

# row NAME RESULT SECONDS NOTE
row() {
  rows+=("$1|$2|$3|${4//|/ }")
  printf '%-44s %-8s %6s s  %s\n' "$1" "$2" "$3" "$4"
  case $2 in
    failed) failed=1 ;;
    "not run") missing=1 ;;
  esac
}
log_of() { echo "$logs/${1//[^A-Za-z0-9]/-}.log"; }
# The end of a log, for who sees only what is printed.
show() { sed 's/^/    /' "$1" | cut -c1-300 | tail -n "${2:-15}"; }
# check NAME SECONDS COMMAND...: passes where the command does within the time that is left for it.
check() {
  local name=$1 limit=$2 began=$SECONDS status=0 log
  shift 2
  log=$(log_of "$name")
  ((limit <= $(left))) || limit=$(left)
  if ((limit < 5)); then row "$name" "not run" 0 "no time was left" && return; fi
  bounded "$limit" "$log" "$@" || status=$?
  case $status in
    0) row "$name" passed $((SECONDS - began)) "" ;;
    124) row "$name" failed $((SECONDS - began)) "took longer than $limit s, see $log" ;;
    *) row "$name" failed $((SECONDS - began)) "exit status $status, see $log" ;;
  esac
  if ((status != 0)); then
    show "$log"
    sweep
  fi
}

# Tests run in several processes at once: what one of them breaks on the GPU does not reach the others
workers=$(nproc)
((workers <= 12)) || workers=12
# Errors after which the process can do nothing more on the GPU.
readonly gpu_is_lost='illegal memory access|misaligned address|illegal instruction|unspecified launch failure|device-side assert|launch timed out|hardware stack error|invalid program counter|uncorrectable ECC'

# worker LIST END LOG COMMAND...: runs the tests of the list until END (of SECONDS). After a test that ends the process, or
# after which the GPU is of no use to it, those behind it run in a new one. LOG.passed, LOG.failed, LOG.skipped: names.
worker() {
  local list=$1 end=$2 log=$3 status try now names
  shift 3
  : >"$log" && : >"$log.passed" && : >"$log.failed" && : >"$log.skipped"
  for try in 1 2 3 4 5 6; do
    names=$(grep -vxFf <(cat "$log.passed" "$log.failed" "$log.skipped") "$list" | paste -sd:) || true
    if [[ -z $names ]]; then return; fi
    if ((SECONDS + 2 >= end)); then break; fi
    status=0
    # A test that long without an end hangs.
    stall=30 bounded $((end - SECONDS)) "$log.$try" "$@" --gtest_filter="$names" || status=$?
    cat "$log.$try" >>"$log"
    sed -nE 's/^\[       OK \] ([^ ,]+).*/\1/p' "$log.$try" >>"$log.passed"
    sed -nE '/^\[==========\] .* ran/,$d; s/^\[  SKIPPED \] ([^ ,]+).*/\1/p' "$log.$try" >>"$log.skipped"
    now=$(sed -nE '/^\[==========\] .* ran/,$d; s/^\[  FAILED  \] ([^ ,]+).*/\1/p' "$log.$try")
    # Those behind the first may have failed by it.
    if grep -qE "$gpu_is_lost" "$log.$try"; then now=$(head -1 <<<"$now"); fi
    if [[ -n $now ]]; then echo "$now" >>"$log.failed"; fi
    if ! grep -qE '^\[==========\] .* ran' "$log.$try"; then
      now=$(sed -nE 's/^\[ RUN      \] ([^ ,]+).*/\1/p' "$log.$try" | tail -1)
      echo "[  DIED    ] ${now:-before the first test} with status $status" >>"$log"
      if [[ -z $now ]]; then break; fi
      echo "$now" >>"$log.failed"
    fi
    rm "$log.$try"
  done
}

# tests NAME SECONDS FILTER PREFIX... -- PROGRAM [ARGUMENT...]: PREFIX: what the program is started by.
tests() {
  local name=$1 limit=$2 filter=$3 began=$SECONDS prefix=() i log count passed wrong skipped undone note
  shift 3
  while [[ $1 != -- ]]; do prefix+=("$1") && shift; done
  shift
  log=$(log_of "$name")
  ((limit <= $(left))) || limit=$(left)
  if ((limit < 10)); then row "$name" "not run" 0 "no time was left" && return; fi
  local folder=$out/work/tests
  rm -rf "$folder" && mkdir -p "$folder"
  bounded 60 "$folder/names" "$@" --gtest_list_tests --gtest_filter="$filter" || true
  awk '/^[^ ].*\./ {suite = $1; next} /^  / {print suite $1}' "$folder/names" >"$folder/all"
  count=$(wc -l <"$folder/all")
  if ((count == 0)); then
    row "$name" failed $((SECONDS - began)) "it has no tests: $(tail -c 200 "$folder/names" | tr '\n' ' ')"
    return
  fi
  # Dealt out in turns, since neighbours take the same time.
  for ((i = 0; i < workers && i < count; ++i)); do
    awk -v n="$workers" -v i="$i" 'NR % n == i' "$folder/all" >"$folder/list-$i"
    if [[ -s $folder/list-$i ]]; then worker "$folder/list-$i" $((began + limit)) "$folder/log-$i" "${prefix[@]}" "$@" & fi
  done
  wait
  cat "$folder"/log-? "$folder"/log-?? >"$log" 2>/dev/null || true
  passed=$(cat "$folder"/*.passed | wc -l) wrong=$(cat "$folder"/*.failed | wc -l)
  skipped=$(cat "$folder"/*.skipped | wc -l)
  undone=$((count - passed - wrong - skipped))
  note="$passed of $count passed"
  if ((wrong > 0)); then note+=", failed: $(cat "$folder"/*.failed | head -4 | paste -sd' ')$( ((wrong <= 4)) || echo " ...")"; fi
  if ((skipped > 0)); then note+=", $skipped not possible here"; fi
  if ((undone > 0)); then note+=", $undone not reached in $limit s"; fi
  if ((wrong > 0)) || [[ ${#prefix[@]} == 0 && $undone -gt 0 ]]; then
    row "$name" failed $((SECONDS - began)) "$note"
    { grep -E -A6 '(: Failure$|^\[  DIED|ERROR SUMMARY: [1-9]|^========= (Invalid|Error|Race|Program))' "$log" || true; } >"$folder/why"
    sed 's/^/    /' "$folder/why" | cut -c1-300 | head -n 40
    sweep
  elif ((undone + skipped > 0)); then
    row "$name" "not run" $((SECONDS - began)) "$note"
  else
    row "$name" passed $((SECONDS - began)) "$note"
  fi
}
