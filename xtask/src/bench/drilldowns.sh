# What an exit costs beside each drill-down, in nanoseconds: one that the drill-down counts, and one that is none of its
# business. Run inside the lab with --icount, where two nanoseconds are one instruction. Needs $KVM_UTILS, $LAB and
# $NOUNS, a list of NOUN[+OPTION]:OPERATION, where the operation is one that the noun counts.
set -eu
cost() { "$LAB" cost --operation "$1" --count 1009 --rounds 5; }
tmp=$(mktemp -d)
foreign() { if [ "$1" = cpuid ]; then echo wrmsr; else echo cpuid; fi; }
for pair in $NOUNS; do
  noun=${pair%%:*} own=${pair#*:}
  other=$(foreign "$noun")
  for operation in $own $other; do
    known="$tmp/none-$operation"
    [ -e "$known" ] || cost "$operation" >"$known"
    echo "none/$noun/$operation $(cat "$known")"
  done
  "$KVM_UTILS" ${noun/+/ } -i 1h >"$tmp/out" 2>&1 & pid=$!
  until grep -q attached "$tmp/out"; do kill -0 $pid || { cat "$tmp/out"; exit 1; }; sleep 0.1; done
  for operation in $own $other; do echo "with/$noun/$operation $(cost "$operation")"; done
  # Background jobs of a shell without a terminal ignore SIGINT.
  kill -TERM $pid; wait $pid || true
done

# What the noun time adds to threads that run no vCPU: two wake-ups and two changes of thread per operation, in microseconds.
pipe() { for _ in 1 2 3; do perf bench sched pipe -T -l 1000 | awk '/usecs\/op/ { print $1 }'; done | sort -n | head -n 1; }
echo "pipe/none $(pipe)"
for source in raw tracepoint; do
  "$KVM_UTILS" time -i 1h --source $source >"$tmp/out" 2>&1 & pid=$!
  until grep -q attached "$tmp/out"; do kill -0 $pid || { cat "$tmp/out"; exit 1; }; sleep 0.1; done
  echo "pipe/$source $(pipe)"
  kill -TERM $pid; wait $pid || true
done
