"""The kernel's own calls: by the C library, and by number where it has no name for them."""

from __future__ import annotations

import ctypes
import os
import platform
import re
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


MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column of the tables, the kernel's name
ALLOWED = """
    # memory
    brk 12 214  mmap 9 222  mprotect 10 226  mremap 25 216  msync 26 227  munmap 11 215
    # reading and writing
    copy_file_range 326 285  fallocate 285 47  fdatasync 75 83  fsync 74 82  ftruncate 77 46  lseek 8 62
    pread64 17 67  preadv 295 69  pwrite64 18 68  pwritev 296 70  read 0 63  readv 19 65  sendfile 40 71
    truncate 76 45  write 1 64  writev 20 66
    # opening and closing
    close 3 57  close_range 436 436  dup 32 23  dup2 33 -  dup3 292 24  open 2 -  openat 257 56  pipe 22 -
    pipe2 293 59  umask 95 166
    # looking at files
    access 21 -  faccessat 269 48  faccessat2 439 439  flistxattr 196 13  fstat 5 80  fstatfs 138 44
    getdents64 217 61  listxattr 194 11  llistxattr 195 12  lstat 6 -  newfstatat 262 79  readlink 89 -
    readlinkat 267 78  stat 4 -  statfs 137 43  statx 332 291
    # folders and names
    chdir 80 49  fchdir 81 50  getcwd 79 17  link 86 -  linkat 265 37  mkdir 83 -  mkdirat 258 34  rename 82 -
    renameat 264 38  renameat2 316 276  rmdir 84 -  symlink 88 -  symlinkat 266 36  unlink 87 -  unlinkat 263 35
    # rights and times of files (not where the tree can be written)
    chmod 90 -  fchmod 91 52  fchmodat 268 53  fchmodat2 452 452  utimensat 280 88
    # processes and threads
    exit 60 93  exit_group 231 94  fork 57 -  futex 202 98  getcpu 309 168  getpriority 140 141  rseq 334 293
    sched_get_priority_max 146 125  sched_get_priority_min 147 126  sched_getaffinity 204 123  sched_getparam 143 121
    sched_getscheduler 145 120  sched_yield 24 124  set_robust_list 273 99  set_tid_address 218 96  setsid 112 157
    vfork 58 -  wait4 61 260  waitid 247 95
    # signals
    alarm 37 -  getitimer 36 102  kill 62 129  pause 34 -  restart_syscall 219 128  rt_sigaction 13 134
    rt_sigpending 127 136  rt_sigprocmask 14 135  rt_sigreturn 15 139  rt_sigsuspend 130 133  rt_sigtimedwait 128 137
    setitimer 38 103  sigaltstack 131 132  tgkill 234 131  tkill 200 130
    # waiting
    clock_nanosleep 230 115  epoll_create1 291 20  epoll_ctl 233 21  epoll_pwait 281 22  epoll_wait 232 -
    eventfd2 290 19  nanosleep 35 101  poll 7 -  ppoll 271 73  pselect6 270 72  select 23 -
    # time
    clock_getres 229 114  clock_gettime 228 113  getrusage 98 165  gettimeofday 96 169  time 201 -  times 100 153
    # identity
    getegid 108 177  geteuid 107 175  getgid 104 176  getgroups 115 158  getpgid 121 155  getpgrp 111 -  getpid 39 172
    getppid 110 173  getrandom 318 278  getresgid 120 150  getresuid 118 148  getrlimit 97 163  getsid 124 156
    gettid 186 178  getuid 102 174  uname 63 160
    # the wire, and pairs of sockets
    getsockname 51 204  getsockopt 55 209"""
ARGUED = """
    # only with some arguments: see `RULES`
    arch_prctl 158 -  clone 56 220  fadvise64 221 223  fcntl 72 25  ioctl 16 29  madvise 28 233  prctl 157 167
    preadv2 327 286  prlimit64 302 261  pwritev2 328 287  recvfrom 45 207  sendto 44 206  socketpair 53 199"""
STRICT = frozenset({"chmod", "fchmod", "fchmodat", "fchmodat2", "utimensat"})  # refused where the tree can be written
OUTSIDE = "mount_setattr 442 442  pivot_root 155 41"  # what the layers themselves call, before the filter is there


def table(text: str) -> dict[str, int]:
    """The numbers of system calls on this machine, by name."""
    column = MACHINES[platform.machine()][0]
    words = re.sub("#.*", "", text).split()
    rows = zip(words[::3], zip(words[1::3], words[2::3], strict=True), strict=True)
    return {name: int(numbers[column]) for name, numbers in rows if numbers[column] != "-"}


def number_of(name: str) -> int:
    return table(OUTSIDE)[name]
