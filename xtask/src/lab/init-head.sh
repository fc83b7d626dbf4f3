#!/bin/busybox sh
# The lab's first process. What all labs begin with is here; init-9p.sh or init-carried.sh follows in the same
# file. ttyS0 is the kernel's console and takes the verdict; what the command prints goes elsewhere, alone.
B=/bin/busybox
$B mount -t proc proc /proc
$B mount -t sysfs sysfs /sys
$B mount -t devtmpfs devtmpfs /dev

# The lines that xtask looks for go through the kernel's log, which no other output can tear apart.
say() { echo "<0>LAB-$*" >/dev/kmsg; }
die() { say "FAIL=$*"; $B poweroff -f; }

# lab_terminal, lab_rows, lab_columns, lab_modules
. /lab/config

# Module parameters stand on the kernel command line as modprobe(8) has it: kvm_amd.nested=0
options() {
  for word in $($B cat /proc/cmdline); do
    case $word in "$1".*) echo "${word#*.}" ;; esac
  done
}
for file in $($B cat /mod/list); do
  name=$(echo "${file%.ko}" | $B tr - _)
  case $name in
    kvm_amd) $B grep -qw svm /proc/cpuinfo || continue ;;
    kvm_intel) $B grep -qw vmx /proc/cpuinfo || continue ;;
  esac
  $B insmod "/mod/$file" $(options "$name") || die "cannot load $name"
done

