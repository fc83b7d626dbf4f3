# A Linux guest with two vCPUs boots and works under QEMU while kvm-utils shows its exits, from the first one on.
# Takes KVM_UTILS, L2_KERNEL, L2_INITRAMFS and DEMO_SECONDS from the environment.
dir=$(mktemp -d) || exit
finish() {
  [ ! -s "$dir/pid" ] || kill "$(cat "$dir/pid")" 2>/dev/null
  rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM HUP

# The guest works longer than it is watched, and powers off by itself should nobody end it.
guest() {
  qemu-system-x86_64 -accel kvm -cpu host -smp 2 -m 256 -name demo,debug-threads=on -nodefaults -no-user-config \
    -display none -no-reboot -daemonize -pidfile "$dir/pid" -serial "file:$dir/console" \
    -kernel "$L2_KERNEL" -initrd "$L2_INITRAMFS" -append "console=ttyS0 quiet work=$DEMO_SECONDS"
}
# kvm-utils says on stderr when it is ready to see every exit.
mkfifo "$dir/said" || exit
while IFS= read -r line; do
  printf '%s\n' "$line" >&2
  case $line in *": attached "*) guest >&2 ;; esac
done <"$dir/said" &

"$KVM_UTILS" exits --vm demo --wait --duration "${DEMO_SECONDS}s" 2>"$dir/said"
status=$?
wait
if ! grep -q L2-READY "$dir/console"; then
  echo "the guest did not come up; its console:"
  cat "$dir/console"
  [ $status -ne 0 ] || status=1
fi
exit $status
