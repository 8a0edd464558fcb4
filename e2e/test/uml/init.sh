#!/bin/sh
# First process of the user-mode Linux that uml.ts boots. The host's root file system is mounted here read-only; what is written goes to
# memory, except in the folder UML_FOLDER, which is the host's own. Runs UML_FOLDER/command and leaves its exit code in UML_FOLDER/exit-code.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
modules=/usr/lib/uml/modules/$(uname -r)
if [ "$1" != inside ]; then
  mount -t tmpfs tmpfs /mnt
  mkdir /mnt/upper /mnt/work /mnt/root
  busybox insmod "$modules/kernel/fs/overlayfs/overlay.ko"
  mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
  cd /mnt/root
  pivot_root . mnt
  exec chroot . /bin/sh "$UML_SCRIPT" inside
fi
mount -t proc proc /proc
mount -t sysfs sys /sys
umount -l /mnt # the old root; a checkout may be there
mount -t tmpfs tmpfs /run
mount -t devtmpfs dev /dev 2>/dev/null
mkdir -p /dev/shm "$UML_FOLDER"
mount -t tmpfs tmpfs /dev/shm
mount -t hostfs none -o "$UML_FOLDER" "$UML_FOLDER"
rm -rf /usr/lib/modules
ln -s /usr/lib/uml/modules /usr/lib/modules
# The kernel asks for further modules by itself.
[ -x /sbin/modprobe ] || ln -s "$(command -v busybox)" /sbin/modprobe
for module in $UML_MODULES; do modprobe "$module" || echo "no module $module"; done
ip link set lo up
sh "$UML_FOLDER/command" >"$UML_FOLDER/stdout" 2>"$UML_FOLDER/stderr"
echo $? >"$UML_FOLDER/exit-code"
sync
busybox poweroff -f
