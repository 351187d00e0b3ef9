#!/usr/bin/python3
"""Stands for a QEMU that was taken over: tries what it must not be able to do, says how each went, one line each."""

import ctypes
import errno
import fcntl
import os
import re
import resource
import socket
import struct
import sys

libc = ctypes.CDLL(None, use_errno=True)
parent = os.getppid()


def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def syscall(number, *arguments):
    return call("syscall", ctypes.c_long(number), *arguments)


def opened(path, flags=os.O_RDONLY):
    os.close(os.open(path, flags, 0o600))
    if flags & os.O_CREAT:
        os.unlink(path)


def read_memory(flags):
    with open(os.open(f"/proc/{parent}/mem", flags), "rb", buffering=0):
        pass


def remote(number):
    """process_vm_readv (310) and process_vm_writev (311) at address 0: EFAULT where it is allowed."""
    piece = ctypes.create_string_buffer(struct.pack("PN", 0, 1))
    syscall(number, parent, piece, 1, piece, 1, 0)


def tcp(action, where):
    with socket.socket() as one:
        getattr(one, action)(where)


def unix(name):
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(name)


def fast(send):
    """TCP Fast Open connects without connect(2)."""
    with socket.socket() as one:
        send(one, 0x20000000, ("127.0.0.1", 9))


def handed(pattern):
    """The descriptor that the command line names."""
    return int(re.search(pattern, " ".join(sys.argv)).group(1))


def tap(request, argument=0):
    fcntl.ioctl(handed(r"tap,\S*fds?=(\d+)"), request, argument)


def hardware_address():
    descriptor, request = handed(r"tap,\S*fds?=(\d+)"), bytes(40)
    fcntl.ioctl(descriptor, 0x8924, fcntl.ioctl(descriptor, 0x8927, request))


def disk():
    return handed(r"-add-fd fd=(\d+)")


def mode(path):
    return os.stat(path).st_mode & 0o7777


def bounding():
    held = [bit for bit in range(64) if libc.prctl(23, bit) == 1]
    if held:
        raise OSError(0, f"held {held}")


def environment():
    if set(os.environ) - {"PATH", "LC_CTYPE"}:
        raise OSError(0, " ".join(os.environ))


def cores():
    if resource.getrlimit(resource.RLIMIT_CORE) != (0, 0):
        raise OSError(0, "core files")


def me():
    return syscall(434, os.getpid(), 0)


CLONE_NEWUSER, CLONE_NEWNET, SIGCHLD = 0x10000000, 0x40000000, 17
state, image, resolv_conf = (sys.argv[0].rsplit("/", 1)[0] + "/" + name for name in ("state", "image", "resolv.conf"))
tries = {
    "memory-read": lambda: read_memory(os.O_RDONLY),
    "memory-write": lambda: read_memory(os.O_RDWR),
    "environ": lambda: opened(f"/proc/{parent}/environ"),
    "descriptors": lambda: os.listdir(f"/proc/{parent}/fd"),
    "ptrace": lambda: call("ptrace", 16, parent, None, None),
    "process_vm_readv": lambda: remote(310),
    "process_vm_writev": lambda: remote(311),
    "signal": lambda: os.kill(parent, 0),
    "passwd": lambda: opened("/etc/passwd"),
    "root": lambda: os.listdir("/"),
    "image": lambda: os.listdir(image),
    "image-write": lambda: opened(image + "/new", os.O_WRONLY | os.O_CREAT),
    "state": lambda: os.listdir(state),
    "resolv.conf": lambda: opened(resolv_conf),
    "tmp-write": lambda: opened("/tmp/berth-test-new", os.O_WRONLY | os.O_CREAT),
    "tap": lambda: opened("/dev/net/tun", os.O_RDWR),
    "bind": lambda: tcp("bind", ("0.0.0.0", 8080)),
    "connect": lambda: tcp("connect", ("127.0.0.1", 9)),
    "net-half": lambda: unix("\0berth-net/tap0"),
    "packets": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close(),
    "mptcp": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).close(),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close(),
    "unix": lambda: socket.socket(socket.AF_UNIX).close(),
    "unix-pair": lambda: socket.socketpair(),
    "status": lambda: unix(state + "/status.sock"),
    "fast-open": lambda: fast(lambda one, flags, where: one.sendto(b"x", flags, where)),
    "fast-open-message": lambda: fast(lambda one, flags, where: one.sendmsg([b"x"], [], flags, where)),
    "fast-open-messages": lambda: fast(lambda one, flags, where: syscall(307, one.fileno(), None, 0, flags)),
    "tap-attach": lambda: tap(0x400454CA, bytes(40)),
    "tap-persist": lambda: tap(0x400454CB, 1),
    "tap-owner": lambda: tap(0x400454CC, os.getuid()),
    "tap-owner-64": lambda: syscall(16, handed(r"tap,\S*fds?=(\d+)"), ctypes.c_long(0x1400454CC), os.getuid()),
    "tap-group": lambda: tap(0x400454CE, os.getgid()),
    "tap-address": hardware_address,
    "chmod": lambda: syscall(90, image.encode(), mode(image)),
    "fchmod": lambda: os.fchmod(disk(), mode(disk())),
    "fchmodat": lambda: syscall(268, -100, image.encode(), mode(image)),
    "fchmodat2": lambda: syscall(452, -100, image.encode(), mode(image), 0),
    "chown": lambda: os.chown(image, -1, -1),
    "fchown": lambda: os.fchown(disk(), -1, -1),
    "lchown": lambda: os.lchown(image, -1, -1),
    "fchownat": lambda: syscall(260, -100, image.encode(), -1, -1, 0),
    "setxattr": lambda: os.setxattr(image, "user.x", b""),
    "fsetxattr": lambda: os.setxattr(disk(), "user.x", b""),
    "removexattr": lambda: os.removexattr(image, "user.x"),
    "utime": lambda: syscall(132, image.encode(), None),
    "utimensat": lambda: os.utime(image),
    "futimens": lambda: os.utime(disk()),
    "limits": lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE),
    "affinity": lambda: os.sched_setaffinity(parent, os.sched_getaffinity(parent)),
    "scheduler": lambda: os.sched_setscheduler(parent, os.SCHED_OTHER, os.sched_param(0)),
    "priority": lambda: os.setpriority(os.PRIO_PROCESS, parent, os.getpriority(os.PRIO_PROCESS, parent)),
    "io-priority": lambda: syscall(251, 1, parent, 0),
    # Behind these its uid is nobody's, where they are allowed.
    "mount": lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None),
    "unshare": lambda: call("unshare", CLONE_NEWUSER),
    "unshare-net": lambda: call("unshare", CLONE_NEWNET),
    "setns": lambda: call("setns", me(), CLONE_NEWNET),
    "clone": lambda: syscall(56, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0),
    "clone3": lambda: syscall(435, None, 0),
    "x32-unshare": lambda: syscall(0x40000000 | 272, CLONE_NEWUSER),
    "io_uring": lambda: syscall(425, 1, None),
    # What it has to have, and has not.
    "library": lambda: opened("/usr/bin/env"),
    "vnc": lambda: tcp("bind", ("127.0.0.1", 5900)),
    "tap-features": lambda: tap(0x800454CF, bytes(4)),
    "tap-offload": lambda: tap(0x400454D0, 0),
    "own-limits": lambda: resource.prlimit(0, resource.RLIMIT_NOFILE),
    "own-affinity": lambda: os.sched_setaffinity(0, os.sched_getaffinity(0)),
    "thread": lambda: __import__("threading").Thread(target=int).start(),
    "no-variables": environment,
    "no-bounding-set": bounding,
    "no-core-files": cores,
}
berth = os.getpid()
for name, attempt in tries.items():
    try:
        attempt()
        how = "done"
    except OSError as error:
        how = errno.errorcode.get(error.errno, str(error))
    if os.getpid() != berth:
        os._exit(0)
    print("TRIED", name, how, flush=True)
print("TRIED all done", flush=True)
