
# The Intel lab: the root is this image, with the files that were carried here. The command prints to port 0xe9
# through /lab/port-e9, or to ttyS1 when it is to see a terminal: that is paced at 115,200 baud of emulated time.
$B mkdir -p /dev/pts /dev/shm /run /tmp /root
$B mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
$B mount -t tmpfs tmpfs /dev/shm
$B mount -t tmpfs tmpfs /run
# What was carried may lie below it.
[ -n "$($B ls -A /tmp)" ] || $B mount -t tmpfs tmpfs /tmp
$B mount -t tracefs tracefs /sys/kernel/tracing
$B mount -t debugfs debugfs /sys/kernel/debug
$B mount -t bpf bpf /sys/fs/bpf
$B mount -t cgroup2 cgroup2 /sys/fs/cgroup
$B ln -sf /proc/self/fd /dev/fd
# For what was not carried; files that are there stay.
$B --install -s 2>/dev/null
$B hostname lab
$B ip link set lo up

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
if [ "$lab_terminal" = 1 ]; then
  # Held open: the last close would forget the size.
  exec 4<>/dev/ttyS1
  $B stty -F /dev/ttyS1 sane 115200 rows "$lab_rows" cols "$lab_columns"
  $B setsid -c /bin/sh /lab/command </dev/ttyS1 >/dev/ttyS1 2>&1 4>&-
  status=$?
else
  # A pipe, so that the command sees what it sees in a pipeline; its reader outlives it by a moment at most,
  # as something left running in the background may keep the pipe open for ever.
  $B mkfifo /lab/out
  /lab/port-e9 </lab/out &
  writer=$!
  /bin/sh /lab/command </dev/null >/lab/out 2>&1
  status=$?
  turns=0
  while [ -d /proc/$writer ] && [ $turns -lt 40 ]; do
    $B usleep 50000
    turns=$((turns + 1))
  done
fi
say "EXIT=$status"
$B poweroff -f
