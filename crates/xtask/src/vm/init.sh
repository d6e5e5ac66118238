#!/bin/busybox sh
# First process of the guest: takes the host's files read-only under a layer in memory, and runs the tests there.
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
mount -t virtiofs -o ro host /host
mount -t tmpfs -o size=90% memory /memory
mkdir /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /root
cd /root || exit 1
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t securityfs securityfs sys/kernel/security
mount -t devtmpfs dev dev
mkdir -p dev/pts dev/shm dev/mqueue
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs tmp
chmod 1777 tmp
# A project below /tmp is under the new one.
for folder in $FOLDERS; do
    case "$folder" in tmp/*)
        layer="/memory/$folder"
        mkdir -p "$folder" "$layer.upper" "$layer.work"
        mount -t overlay -o "lowerdir=/host/$folder,upperdir=$layer.upper,workdir=$layer.work" overlay "$folder"
    esac
done
mount -t tmpfs tmpfs run
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir -p "lib/modules/$(uname -r)"
mount --bind "/host/$MODULES" "lib/modules/$(uname -r)"
# Nothing makes its device node when it is wanted.
chroot . /sbin/modprobe loop
ip link set lo up
hostname gantry-vm
# The kernel starts modprobe where its first process has its root.
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
    switch_root /root /bin/sh "$SCRIPT"
