# What an exit costs beside each drill-down, in nanoseconds: one that the drill-down counts, and one that is none of its
# business. Run inside the lab with --icount, where two nanoseconds are one instruction. Needs $KVM_UTILS, $LAB and
# $NOUNS, a list of NOUN:OPERATION, where the operation is one that the noun counts.
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
  "$KVM_UTILS" "$noun" -i 1h >"$tmp/out" 2>&1 & pid=$!
  until grep -q attached "$tmp/out"; do kill -0 $pid || { cat "$tmp/out"; exit 1; }; sleep 0.1; done
  for operation in $own $other; do echo "with/$noun/$operation $(cost "$operation")"; done
  # Background jobs of a shell without a terminal ignore SIGINT.
  kill -TERM $pid; wait $pid || true
done
