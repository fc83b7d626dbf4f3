
# The AMD lab: this machine's files become the root (over 9p, read-only, with a tmpfs on top). ttyS1 carries
# what the command prints.
$B mkdir -p /lower /rw /new
$B mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose hostroot /lower ||
  die "cannot mount the machine's files over 9p"
$B mount -t tmpfs tmpfs /rw
$B mkdir /rw/upper /rw/work
$B mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work overlay /new ||
  die "cannot put a writable layer over the machine's files"
for dir in proc sys dev; do $B mount --bind /$dir /new/$dir; done
$B mkdir -p /new/dev/pts /new/dev/shm /new/run /new/lib/modules
$B mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /new/dev/pts
$B mount -t tmpfs tmpfs /new/dev/shm
$B mount -t tmpfs tmpfs /new/run
$B mount -t tracefs tracefs /new/sys/kernel/tracing
$B mount -t debugfs debugfs /new/sys/kernel/debug
$B mount -t bpf bpf /new/sys/fs/bpf
$B mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
$B mount --bind "/new$lab_modules" /new/lib/modules
$B ln -sf /proc/self/fd /new/dev/fd
$B hostname lab
$B ip link set lo up
$B mkdir /new/run/lab
$B cp /lab/command /bin/busybox /new/run/lab/

run() { PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root $B chroot /new "$@"; }
port=/new/dev/ttyS1
if [ "$lab_terminal" = 1 ]; then
  # Held open: the last close would forget the size.
  exec 4<>$port
  $B stty -F $port sane 115200 rows "$lab_rows" cols "$lab_columns"
  run /run/lab/busybox setsid -c /bin/sh /run/lab/command <$port >$port 2>&1 4>&-
  status=$?
  # Waits until all has been sent.
  exec 4>&-
else
  # A pipe, so that the command sees what it sees in a pipeline; cat outlives it by a moment at most,
  # as something left running in the background may keep the pipe open for ever.
  $B stty -F $port raw -echo 115200
  $B mkfifo /out
  $B cat /out >$port &
  cat=$!
  run /bin/sh /run/lab/command </new/dev/null >/out 2>&1
  status=$?
  turns=0
  while [ -d /new/proc/$cat ] && [ $turns -lt 40 ]; do
    $B usleep 50000
    turns=$((turns + 1))
  done
fi
say "EXIT=$status"
$B poweroff -f
