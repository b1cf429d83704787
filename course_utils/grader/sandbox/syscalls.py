"""The kernel's own calls: by the C library, and by number where it has no name for them."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

LINUX = sys.platform == "linux"
libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *arguments: object) -> int:
    """A function of the C library; an error becomes an `OSError` that names it."""
    result = getattr(libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SUBREAPER = 1, 4, 36
PR_SET_SECCOMP, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT = 22, 24, 38, 47
NEWNS, NEWCGROUP, NEWUTS, NEWIPC = 0x00020000, 0x02000000, 0x04000000, 0x08000000
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
NAMESPACES = NEWNS | NEWUTS | NEWIPC | NEWPID | NEWNET


def prctl(option: int, value: int, more: int = 0) -> int:
    return call("prctl", option, *(ctypes.c_ulong(number) for number in (value, more, 0, 0)))


def dumpable(on: bool) -> None:
    """Whether other processes of this user may read this one's memory."""
    if LINUX:
        prctl(PR_SET_DUMPABLE, on)


MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the table, the kernel's name
REFUSED = """
    socket 41 198  ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271  kcmp 312 272
    pidfd_open 434 434  pidfd_getfd 438 438  process_madvise 440 440
    unshare 272 97  setns 308 268  chroot 161 51  pivot_root 155 41  mount 165 40  umount2 166 39
    mount_setattr 442 442  open_tree 428 428  open_tree_attr 467 467  move_mount 429 429  fsopen 430 430
    fsconfig 431 431  fsmount 432 432  fspick 433 433
    bpf 321 280  perf_event_open 298 241  userfaultfd 323 282
    io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427
    keyctl 250 219  add_key 248 217  request_key 249 218
    open_by_handle_at 304 265  name_to_handle_at 303 264  fanotify_init 300 262
    shmget 29 194  shmat 30 196  msgget 68 186  semget 64 190  mq_open 240 180
    memfd_create 319 279  memfd_secret 447 447
    init_module 175 105  finit_module 313 273  delete_module 176 106  kexec_load 246 104  kexec_file_load 320 294
    reboot 169 142  swapon 167 224  swapoff 168 225  acct 163 89  quotactl 179 60  quotactl_fd 443 443  syslog 103 116
    settimeofday 164 170  clock_settime 227 112  adjtimex 159 171  clock_adjtime 305 266  vhangup 153 58
    personality 135 92  iopl 172 -  ioperm 173 -  modify_ldt 154 -  uselib 134 -"""
STRICT = """
    chmod 90 -  fchmod 91 52  fchmodat 268 53  fchmodat2 452 452  chown 92 -  fchown 93 55  lchown 94 -  fchownat 260 54
    utime 132 -  utimes 235 -  futimesat 261 -  utimensat 280 88  setxattr 188 5  lsetxattr 189 6  fsetxattr 190 7
    setxattrat 463 463  removexattr 197 14  lremovexattr 198 15  fremovexattr 199 16  removexattrat 466 466"""


def table(text: str) -> dict[str, int]:
    """The numbers of system calls on this machine, by name."""
    column, words = MACHINES[platform.machine()][0], text.split()
    rows = zip(words[::3], zip(words[1::3], words[2::3], strict=True), strict=True)
    return {name: int(numbers[column]) for name, numbers in rows if numbers[column] != "-"}


def number_of(name: str) -> int:
    return table(REFUSED)[name]
