# What one WRMSR exit costs without a tracer and with each, in nanoseconds: run inside the lab with --icount, where two
# of them are one instruction. Needs $KVM_UTILS, $LAB and perf.
set -eu
cost() { "$LAB" cost --operation wrmsr --count 1009 --rounds 5 "$@"; }
say() { echo "cost $1 $2"; }
tmp=$(mktemp -d)
# beside NAME READY COMMAND...: the cost while COMMAND runs; READY is what it prints when it has attached
beside() {
  name=$1 ready=$2; shift 2
  "$@" >"$tmp/out" 2>&1 & pid=$!
  if [ -n "$ready" ]; then
    until grep -q "$ready" "$tmp/out"; do kill -0 $pid || { cat "$tmp/out"; exit 1; }; sleep 0.1; done
  else
    # perf says nothing when it has attached; its events are there once it has opened them.
    until ls -l /proc/$pid/fd 2>/dev/null | grep -q perf_event; do kill -0 $pid || { cat "$tmp/out"; exit 1; }; sleep 0.1; done
    sleep 1
  fi
  say "$name" "$(cost)"
  # Background jobs of a shell without a terminal ignore SIGINT.
  kill -TERM $pid; wait $pid || true
}
say none "$(cost)"
say empty "$(cost --empty-programs)"
beside raw attached "$KVM_UTILS" exits -i 1h
beside tracepoint attached "$KVM_UTILS" exits -i 1h --source tracepoint
beside events attached "$KVM_UTILS" record --events -i 1h -o "$tmp/events.kvmrec"
beside perf-stat '' perf stat -a -e kvm:kvm_exit -e kvm:kvm_entry sleep 100000
beside perf-kvm-record '' perf kvm stat record -a -o "$tmp/perf.data" sleep 100000
