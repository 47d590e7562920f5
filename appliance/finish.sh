#!/bin/sh
# Makes a root of the packages that were extracted into the folder $1: without their scripts, so
# what those would have done and is wanted is here. $2 is the program, $3 this folder, $5 the version;
# what belongs beside the root (kernel, loader, initrd, list of packages) goes to $4.
set -eu
root=$1
program=$2
here=$3
out=$4
version=$5
export LC_ALL=C
umask 022

# Packages that only the scripts of others need.
left_out=$(sed -n 's/^- \([^ :]*\):.*/\1/p' "$here/packages")
for package in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb --show --showformat='${Package} ${Version}\n' "$package"
done | sort > "$out/manifest"
for name in $left_out; do
    for package in "$root/var/cache/apt/archives/${name}_"*.deb; do
        dpkg-deb --fsys-tarfile "$package" | tar --list | grep -v '/$' |
            (cd "$root" && xargs rm -f)
    done
    sed -i "/^$name /d" "$out/manifest"
done

# What is copied or moved out.
cp "$root"/boot/vmlinuz-* "$out/kernel"
cp "$root"/usr/lib/systemd/boot/efi/linuxx64.efi.stub "$out/stub"
cp "$root"/usr/lib/systemd/boot/efi/systemd-bootx64.efi "$out/loader"
rm -rf "$root"/boot/* "$root"/usr/lib/systemd/boot

# What nobody reads on an appliance; whose work it is, and by which licence, stays.
find "$root/usr/share/doc" ! -type d ! -name copyright ! -type l -delete
find "$root/usr/share/doc" -type d -empty -delete
for path in usr/share/man usr/share/locale usr/share/lintian usr/share/bug \
    usr/share/bash-completion usr/share/zsh usr/share/initramfs-tools usr/share/i18n \
    usr/share/perl5 usr/share/debconf usr/share/polkit-1 usr/share/dbus-1 usr/share/pkgconfig \
    usr/share/base-files usr/lib/kernel usr/lib/udev/hwdb.d usr/lib/x86_64-linux-gnu/gconv \
    usr/games usr/include usr/src usr/local opt home srv media mnt \
    etc/init.d etc/kernel etc/initramfs-tools etc/default etc/skel etc/dhcp etc/apt \
    etc/dpkg etc/ssh etc/update-motd.d etc/profile.d etc/dbus-1 etc/motd etc/issue etc/issue.net \
    etc/debconf.conf etc/binfmt.d etc/X11 etc/pam.d etc/xdg etc/nftables.conf etc/cron.daily; do
    rm -rf "${root:?}/$path"
done
rm -rf "$root"/etc/rc?.d
# Nobody logs in, so that nothing asks for a name.
rm -rf "$root"/usr/lib/systemd/system/*getty* "$root"/usr/lib/systemd/system/getty.target.wants
# What would be made anew at each start of a root that never changes, or has no use here.
for unit in ldconfig systemd-journal-catalog-update systemd-update-done systemd-hwdb-update \
    systemd-firstboot systemd-logind systemd-user-sessions systemd-hostnamed systemd-remount-fs \
    systemd-binfmt proc-sys-fs-binfmt_misc systemd-initctl systemd-sysext systemd-creds \
    systemd-networkd-persistent-storage systemd-udev-load-credentials kmod-static-nodes \
    systemd-modules-load 'modprobe@' \
    systemd-tmpfiles-setup-dev systemd-tmpfiles-setup-dev-early 'systemd-pcr*' 'systemd-tpm2*' \
    'systemd-hibernate*' 'systemd-ask-password-*' systemd-pstore run-lock dev-hugepages \
    dev-mqueue sys-kernel-debug sys-kernel-tracing sys-kernel-config sys-fs-fuse-connections; do
    find "$root/usr/lib/systemd/system" ! -type d -name "$unit.*" -delete
done
# The proxy goes on trying until the network is there. This would wait for IPv6 to look for a double
# of an address that nobody uses.
rm -f "$root/usr/lib/systemd/system/systemd-networkd-wait-online"*
# Neither the time nor names are a condition of the start, so that they may be asked for last.
for name in timesyncd resolved; do
    unit=$root/usr/lib/systemd/system/systemd-$name.service
    sed -i 's/^Before=.*/Before=shutdown.target/' "$unit"
    ! grep -q 'sysinit\.target ' "$unit" || {
        echo "$unit is still a condition of the start" >&2
        exit 1
    }
done
# It has no sound, no camera, no screen but a page of text, and nobody at a seat.
for kind in alsa autosuspend btrfs camera drm evdev fido-id infiniband input input-id iocost joystick \
    mouse probe_mtd seat sensor serial sound-card storage-mtd storage-tape touchpad uaccess v4l \
    seat-late persistent-alsa persistent-input persistent-storage-mtd persistent-storage-tape \
    persistent-v4l; do
    find "$root/usr/lib/udev/rules.d" -name "[0-9][0-9]-$kind.rules" -delete
done
# It has no guests, and nothing to do with the clock of its processor.
rm -rf "$root"/usr/lib/modules/*/kernel/arch/x86/kvm "$root"/usr/lib/modules/*/kernel/virt \
    "$root"/usr/lib/modules/*/kernel/drivers/cpufreq
# systemd loads them where they are there, for what the appliance does not have.
find "$root/usr/lib/modules" \( -name 'autofs4.ko*' -o -name 'ip_tables.ko*' \) -delete
# Nothing is made of what else there may be: every unit is a file that is in the image.
rm -rf "$root/usr/lib/systemd/system-generators"
rm -rf "$root"/var/* "$root"/tmp/* "$root"/usr/lib/klibc "$root"/usr/lib/lsb

# The appliance's own files, at their paths, and the program.
(cd "$here/root" && find . -type f) | while read -r path; do
    mode=644
    [ ! -x "$here/root/$path" ] || mode=755
    install -D -m "$mode" "$here/root/$path" "$root/$path"
done
install -D -m 755 "$program" "$root/usr/bin/postern"
strip "$root/usr/bin/postern"
install -D -m 644 "$here/debian/copyright" "$root/usr/share/doc/postern/copyright"
gzip -9 --no-name < "$out/libraries" > "$root/usr/share/doc/postern/libraries.gz"
mkdir -p "$root/efi" "$root/var/tmp"

printf 'IMAGE_ID=postern\nIMAGE_VERSION=%s\n' "$version" >> "$root/usr/lib/os-release"

# The commands of the appliance's own scripts, as far as no package brings them.
chroot "$root" busybox --list | while read -r name; do
    [ -e "$root/usr/bin/$name" ] || [ -e "$root/usr/sbin/$name" ] ||
        ln -s busybox "$root/usr/bin/$name"
done

# What the scripts of packages would have made.
chroot "$root" systemd-sysusers
rm -f "$root"/etc/*- "$root/etc/.pwd.lock"
# Each module unpacked: the root is compressed as a whole.
find "$root/usr/lib/modules" -name '*.ko.xz' -exec xz --decompress {} +
modules=$(basename "$root"/usr/lib/modules/*)
chroot "$root" depmod "$modules"
cat "$root"/usr/share/ca-certificates/mozilla/*.crt > "$root/etc/ssl/certs/ca-certificates.crt"
rm -rf "$root/usr/share/ca-certificates"
rm -rf "$root"/etc/systemd/system/*
chroot "$root" systemctl preset-all --preset-mode=enable-only 2> /dev/null
chroot "$root" systemctl set-default multi-user.target 2> /dev/null
# An empty file is where the machine's own id goes, and no sign of a first start.
: > "$root/etc/machine-id"
ln -sf ../run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
ln -s ../run/postern-settings "$root/etc/postern"
ln -sf ../proc/self/mounts "$root/etc/mtab"

# What finds the root: a shell, what sets up dm-verity, its libraries, the modules of disks.
initrd=$out/initrd
mkdir -p "$initrd/bin" "$initrd/lib64" "$initrd/lib/x86_64-linux-gnu" "$initrd/modules"
install -m 755 "$here/initrd/init" "$initrd/init"
install -m 755 "$root/usr/bin/busybox" "$root/usr/sbin/dmsetup" "$initrd/bin"
cp -L "$root/lib64/ld-linux-x86-64.so.2" "$initrd/lib64"
# A pipeline would go on when its first command fails.
chroot "$root" /lib64/ld-linux-x86-64.so.2 --list /usr/sbin/dmsetup > "$out/needed"
sed -n 's,.* => \(/[^ ]*\) .*,\1,p' "$out/needed" | while read -r library; do
    cp -L "$root/$library" "$initrd/lib/x86_64-linux-gnu"
done
grep -v '^#' "$here/initrd/modules" > "$out/drivers"
while read -r names; do
    for name in $names; do
        listed=$(chroot "$root" modprobe --set-version "$modules" --show-depends "$name")
        for module in $(echo "$listed" | sed -n 's,^insmod \([^ ]*\).*,\1,p'); do
            file=$(basename "$module")
            [ ! -e "$initrd/modules/$file" ] || continue
            cp "$root/$module" "$initrd/modules"
            printf '%s ' "$file"
        done
    done
    echo
done < "$out/drivers" > "$initrd/modules/order"
