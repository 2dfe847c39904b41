#!/bin/sh
# packages.sh PACKAGE...: install Debian packages as root and start none of their services, now or at the next boot.
# ./lab runs it, through sudo where it must. Everything it changes beside the packages is undone when it ends.
set -u
policy=/usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 LC_ALL=C
made=''
trap 'rm -f $made' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

# invoke-rc.d and deb-systemd-invoke ask policy-rc.d; RUNLEVEL=1 would silence the first alone. The file forbids only while
# this process lives, so that even one left behind by SIGKILL has no effect; the next run takes it away.
forbid_services() {
    if [ -e "$policy" ] && grep -q '^# tunlab$' "$policy"; then rm -f "$policy"; fi
    if [ -e "$policy" ]; then
        # The admin's own stays as it is. Where it would let a service start, ours covers it in this process's mount
        # namespace alone; where that is not allowed, the admin's word counts.
        "$policy" etcd start >/dev/null 2>&1
        [ $? = 101 ] || [ -n "${TUNLAB_COVERED:-}" ] || ! unshare --mount true 2>/dev/null || cover "$@"
        return 0
    fi
    new=$(mktemp "$policy.XXXXXX") || return 0
    made="$made $new"
    printf '#!/bin/sh\n# tunlab\n[ -d /proc/%s ] && exit 101\nexit 0\n' $$ >"$new"
    chmod 755 "$new"
    ln "$new" "$policy" && made="$made $policy"
}

cover() {
    exec env TUNLAB_COVERED=1 unshare --mount sh -c '
        policy=$1; shift; self=$1; shift
        cover=$(mktemp) && printf "#!/bin/sh\nexit 101\n" >"$cover" && chmod 755 "$cover" &&
            mount --bind "$cover" "$policy"; rm -f "$cover"
        exec sh "$self" "$@"' cover "$policy" "$0" "$@"
}

refresh() { apt-get -q=2 update >&2 </dev/null && fresh=yes; }

# Sets known to the packages that apt can install here.
look_up() {
    known='' unknown=''
    for package in "$@"; do
        if apt-cache show --no-all-versions "$package" >/dev/null 2>&1; then
            known="$known $package"
        else
            unknown="$unknown $package"
        fi
    done
}

install() {
    apt-get -q=2 -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "$@" \
        >"$log" 2>&1 </dev/null || { tail -n 20 "$log" >&2; return 1; }
}

# A service that is enabled would start at the next boot: only those whose package this run brought.
disable_services() {
    for package in "$@"; do
        case $package in etcd-server) service=etcd ;; bird2) service=bird ;; *) continue ;; esac
        if command -v systemctl >/dev/null; then
            systemctl --quiet disable "$service.service"
        elif command -v update-rc.d >/dev/null; then
            update-rc.d "$service" disable
        fi >/dev/null 2>&1
    done
    return 0
}

[ $# -gt 0 ] || { sed -n '2,3s/^# //p' "$0"; exit 2; }
forbid_services "$@"
log=$(mktemp) && made="$made $log"
fresh=no
look_up "$@"
[ -z "$unknown" ] || { refresh; look_up "$@"; }
[ -z "$unknown" ] || echo "packages: apt does not know$unknown (Ubuntu: they are in universe)" >&2
[ -n "$known" ] || exit 2
install $known || { [ $fresh = no ] && refresh && install $known; } || exit 2
disable_services $known
[ -z "$unknown" ]
