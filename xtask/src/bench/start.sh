# How long `kvm-utils exits` takes from its start until it has attached, and how much memory it then holds.
set -eu
tmp=$(mktemp -d)
mkfifo "$tmp/err"
for round in 1 2 3 4 5; do
  began=$(date +%s%N)
  "$KVM_UTILS" exits -i 1h >/dev/null 2>"$tmp/err" & pid=$!
  exec 3<"$tmp/err"
  while read -r line <&3; do case $line in *attached*) break ;; esac; done
  echo "start $(( ($(date +%s%N) - began) / 1000 ))"
  sleep 1
  echo "rss $(awk '/^VmHWM/ { print $2 }' /proc/$pid/status)"
  kill $pid; wait $pid || true
  exec 3<&-
done
