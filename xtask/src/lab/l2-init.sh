#!/bin/busybox sh
# The guest inside the lab: does some of everything that leaves guest mode, then powers off.
# work=SECONDS on the kernel command line says for how long, work=boot for not at all. work=clock and work=timers do one
# thing only, on every CPU, as fast as they can: ask for the time, arm timers; work_seconds=SECONDS says for how long (10).
# work=bench runs kvm-bench, where it is on board, with the words of bench=WORD,WORD,... and again with those after each +.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev
$B mount -t tmpfs tmpfs /tmp
for file in $($B cat /mod/list); do $B insmod "/mod/$file"; done

now() { IFS=. read -r seconds _ </proc/uptime; }
now
echo "L2-READY after $seconds s with $($B nproc) CPUs, clock $($B cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"

# Devices that only some guests have.
[ -e /sys/class/net/eth0 ] && $B ifconfig eth0 up

# One turn: each line is a reason to leave.
turn() {
  # CPUID and MSR reads on every CPU, sent there by interrupts between processors.
  for cpu in /dev/cpu/[0-9]*; do
    $B dd if=$cpu/cpuid of=/dev/null bs=16 count=8 2>/dev/null
    $B dd if=$cpu/msr of=/dev/null bs=8 count=1 skip=2 2>/dev/null
  done
  # The clock chip: port I/O.
  $B hwclock -r >/dev/null 2>&1
  # Two processes that wake each other across processors.
  $B taskset 1 $B yes | $B taskset 2 $B head -c 65536 >/dev/null
  # Memory nobody has touched yet.
  $B dd if=/dev/zero of=/tmp/fill bs=65536 count=16 2>/dev/null
  # Devices that only some guests have.
  [ -b /dev/vda ] && $B dd if=/dev/vda of=/dev/null bs=4096 count=8 iflag=direct 2>/dev/null
  [ -c /dev/hwrng ] && $B dd if=/dev/hwrng of=/dev/null bs=16 count=1 2>/dev/null
  # Timers, and time with nothing to do.
  $B usleep 20000
}

# One system call over and over, on every CPU.
storm() {
  cpu=0
  while [ "$cpu" -lt "$($B nproc)" ]; do
    $B taskset "$($B printf %x $((1 << cpu)))" $B timeout "${work_seconds:-10}" /load "$1" &
    cpu=$((cpu + 1))
  done
  wait
}

case ${work:-boot} in
boot) ;;
clock | timers)
  storm "$work"
  echo "L2-WORKED $work"
  ;;
bench)
  # What the kernel says meanwhile would come amid the report.
  $B dmesg -n 1
  for words in $(echo "${bench:-all}" | $B tr + ' '); do
    /kvm-bench $(echo "$words" | $B tr , ' ')
    echo "L2-WORKED $words: exit status $?"
  done
  ;;
*)
  end=$((seconds + work))
  turns=0
  while [ "$seconds" -lt "$end" ]; do
    turn
    turns=$((turns + 1))
    now
  done
  echo "L2-WORKED $turns turns"
  ;;
esac
echo "L2-DONE"
$B poweroff -f
