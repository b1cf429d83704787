"""The sandbox in layers, by the kernel's own calls. Each layer is proved: a process inside it tries what it forbids.

    NS   namespaces: own processes, network, shared memory, and a file tree in which nothing else exists
    RO   the tree is read-only            TMP  the only writable folder is small and in memory
    CAP  no capabilities                  LL   Landlock: only listed files open
    SIG  Landlock: no signals outwards    SC   seccomp: no sockets, mounts, namespaces, tracing, shared memory
    RL   limits of the process            UID  a user of its own (needs root)
    ZY   the process that is forked holds no secret (proved by `zygote`)

The order of the calls matters: most are impossible, useless or undone in another place.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib.util
import mmap
import os
import platform
import re
import resource
import shutil
import signal
import socket
import struct
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent
LAYERS = ("NS", "RO", "TMP", "UID", "CAP", "LL", "SIG", "SC", "RL")
NEEDS = {"RO": {"NS"}, "TMP": {"NS"}, "CAP": {"NS", "RO"}, "SIG": {"LL"}}
LEVELS = {"full": frozenset(LAYERS), "basic": frozenset({"UID", "LL", "SIG", "SC", "RL"}), "none": frozenset({"RL"})}
INSIDE = "/box"  # the work folder, as the box sees it
GIB = 2**30
MEMORY, FILE_SIZE, FILES, PROCESSES, WORK_SIZE, WORK_FILES = 4 * GIB, 16 * 2**20, 128, 32, "32m", 2000

LINUX = sys.platform == "linux"
libc = ctypes.CDLL(None, use_errno=True)


class NoIsolation(RuntimeError):
    """This machine cannot give the isolation that is asked for."""


@dataclass(frozen=True)
class Plan:
    """How one box is made: its layers, its work folder outside, its user, and for how many seconds it may compute."""

    layers: frozenset[str]
    folder: str
    uid: int
    seconds: int = 600


def call(name: str, *arguments: object) -> int:
    """A function of the C library; an error becomes an `OSError` that names it."""
    result = getattr(libc, name)(*arguments)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def is_root() -> bool:
    return hasattr(os, "geteuid") and os.geteuid() == 0


def user_for(process: int) -> int:
    """A user that nobody else is, one for each worker: numbers that distributions leave free."""
    return 60_580 + process % 600 if is_root() else os.geteuid()


def demand_readable(level: str) -> None:
    """Raise `NoIsolation`, before anything slow is started, if the user of a box cannot read Python, torch or the course.

    With namespaces the folders above them do not matter; without, a Python below root's home is out of reach.
    """
    if not is_root() or "UID" not in LEVELS[level] or "NS" in LEVELS[level]:
        return
    torch = importlib.util.find_spec("torch")
    for path in (os.__file__, str(PACKAGE / "__init__.py"), torch and torch.origin):
        if path and not readable_by(user_for(os.getpid()), path):
            raise NoIsolation(
                f"isolation {level!r} gives a box a user of its own, who cannot read {path}: use --isolation full, "
                "or a Python and a course in a place that all users can read, such as /opt"
            )


def readable_by(uid: int, path: str) -> bool:
    """Whether the user `uid` can read the file `path`: tried in a process of that user."""
    child = os.fork()
    if not child:
        try:
            become(uid)
            os._exit(0 if os.access(path, os.R_OK) else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def become(uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)


# --------------------------------------------------------------------------------------- before and after the fork

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


def fork_box(plan: Plan, body: Callable[[], None]) -> int:
    """Start `body` inside a box, and a keeper who waits for it; returns the keeper's process id.

    The keeper runs nothing of a learner. It ends when the box has ended, and ends the box when it gets SIGTERM, when its
    parent dies, or when the time is over. Its exit status is not zero if the box could not be made.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    keeper = os.fork()
    if not keeper:
        try:
            os._exit(keep(plan, body))
        finally:
            os._exit(BROKEN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    return keeper


BROKEN = 70  # exit status of a keeper or a box whose layers could not be put on


def keep(plan: Plan, body: Callable[[], None]) -> int:
    """The life of a keeper. Whatever comes in between, nothing of the box is left when it returns or raises."""
    leave(plan)
    try:
        if "NS" not in plan.layers:
            os.mkdir(plan.folder + INSIDE, 0o700)
            os.chown(plan.folder + INSIDE, plan.uid, -1)
        box = start(plan, body)
        for number in (signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, lambda *_: kill(box))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        signal.alarm(plan.seconds)
        _, status = os.waitpid(box, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
        sweep()
        remove(plan.folder + INSIDE)
    return BROKEN if os.WIFEXITED(status) and os.WEXITSTATUS(status) == BROKEN else 0


def start(plan: Plan, body: Callable[[], None]) -> int:
    """Fork the box itself, which enters the layers and runs `body`; returns its process id."""
    box = os.fork()
    if box:
        return box
    try:
        enter(plan)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    except BaseException as error:
        with suppress(OSError):
            print(f"course grade: no box: {error}", file=sys.stderr, flush=True)
        os._exit(BROKEN)
    try:
        body()
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(0)


def kill(process: int) -> None:
    with suppress(ProcessLookupError):  # it has ended by itself
        os.kill(process, signal.SIGKILL)


def leave(plan: Plan) -> None:
    """In the keeper, before it forks the box: a session of its own, and namespaces for its children."""
    os.setsid()
    if not LINUX:
        return
    dumpable(True)  # else the files of /proc/self belong to root
    Path("/proc/self/oom_score_adj").write_text("1000")
    adopt_orphans()
    if "NS" in plan.layers and is_root():
        call("unshare", NAMESPACES)
    elif "NS" in plan.layers:
        uid, gid = os.geteuid(), os.getegid()
        call("unshare", NAMESPACES | NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    dumpable(False)
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # new namespaces clear it


def sweep() -> None:
    """Kill whatever is left below this process; orphans are the children of the keeper, or else of the warm process."""
    with suppress(ChildProcessError):  # there is none any more
        while True:
            os.waitpid(-1, os.WNOHANG)
            for process in descendants(os.getpid()):
                kill(process)
            os.waitpid(-1, 0)


def adopt_orphans() -> None:
    if LINUX:
        prctl(PR_SET_SUBREAPER, 1)


def remove(folder: str) -> None:
    """Remove a work folder, also one whose owner has locked parts of it; nobody writes into it any more."""
    if not is_root():  # for root no lock exists
        unlock(folder)
    shutil.rmtree(folder, ignore_errors=True)


def unlock(folder: str) -> None:
    """Open the folder and those in it to their owner, each before it is looked into."""
    with suppress(OSError):  # it is not there any more
        os.chmod(folder, 0o700)
        for path, names, _ in os.walk(folder):
            for name in names:
                if not os.path.islink(inner := os.path.join(path, name)):
                    os.chmod(inner, 0o700)


# ------------------------------------------------------------------------------------------------------ work folders


@contextmanager
def work_folder() -> Iterator[str]:
    """A folder for boxes, locked as long as it is used; those that killed processes have left are removed before."""
    remove_abandoned(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=f"course-grade-{os.getpid()}_") as folder:
        os.chmod(folder, 0o711)  # the user of a box must get to its work folder
        lock = os.open(folder, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            os.close(lock)


def remove_abandoned(parent: Path) -> None:
    """Remove the work folders of this user whose process is dead, and what their trials have left beside them."""
    for path in sorted(parent.glob("course-grade-*")):
        name = re.fullmatch(r"course-grade-(\d{1,9})_\w+(\.secret|\.new)?", path.name)
        with suppress(OSError):
            if not name or path.lstat().st_uid != os.geteuid() or is_alive(int(name[1])):
                continue
            if not name[2]:
                remove_if_unlocked(path)
            elif not path.with_suffix("").exists():
                path.unlink()


def remove_if_unlocked(folder: Path) -> None:
    """In another container the same numbers are other processes, but a lock is a lock."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        remove(str(folder))
    finally:
        os.close(lock)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to somebody else
        return True
    return True


def descendants(process: int) -> list[int]:
    """All processes below `process`, nearest first."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = entry.read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        children.setdefault(int(parent), []).append(int(entry.parent.name))
    found = [process]
    for one in found:
        found += children.get(one, [])
    return found[1:]


def enter(plan: Plan) -> None:
    """In the box, before any code of a learner: all layers of `plan`, from the outermost to the innermost."""
    if LINUX:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    limits = limits_of(plan)  # while /proc is there
    work = new_tree(plan) if "NS" in plan.layers else plan.folder + INSIDE
    os.chdir(work)
    os.environ.update(HOME=work, TMPDIR=work, MPLCONFIGDIR=work)
    if "UID" in plan.layers:
        become(plan.uid)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a change of the user clears it
    if "CAP" in plan.layers:
        drop_capabilities()
    if plan.layers & {"CAP", "LL", "SC"}:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
    if "LL" in plan.layers:
        landlock(work, signals="SIG" in plan.layers)
    if "SC" in plan.layers:
        load_filter(strict="RO" not in plan.layers)
    for kind, value in limits.items():  # last: the steps before need memory
        resource.setrlimit(kind, value)


# ------------------------------------------------------------------------------------------------------- namespaces

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE, MNT_DETACH = 1, 2, 4, 4096, 16384, 1 << 18, 2
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = -100, 0x8000, 1, 2


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    texts = [text.encode() if text is not None else None for text in (source, target, kind)]
    call("mount", *texts, ctypes.c_ulong(flags), options.encode())


def mount_setattr(path: str, flags: int, switch_on: int, switch_off: int = 0) -> None:
    attributes = struct.pack("4Q", switch_on, switch_off, 0, 0)
    call("syscall", number_of("mount_setattr"), AT_FDCWD, path.encode(), flags, attributes, len(attributes))


def new_tree(plan: Plan) -> str:
    """Move into a file tree in which nothing exists but the listed places and the work folder, which is returned."""
    root, work = plan.folder, plan.folder + INSIDE
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount("box", root, "tmpfs", MS_NOSUID | MS_NODEV, "size=4m,mode=755")
    os.mkdir(work)
    for path in places():
        show(path, root + path)
    if "RO" in plan.layers:
        mount_setattr(root, AT_RECURSIVE, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID)
    small = f",size={WORK_SIZE},nr_inodes={WORK_FILES}" if "TMP" in plan.layers else ""
    mount("work", work, "tmpfs", MS_NOSUID | MS_NODEV, f"mode=700,uid={plan.uid},gid={plan.uid}{small}")
    os.chdir(root)
    call("syscall", number_of("pivot_root"), b".", b".")
    call("umount2", b".", MNT_DETACH)
    return INSIDE


def show(path: str, target: str) -> None:
    """Let the place `path` of the outer tree appear at `target`."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
        return
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
    else:
        Path(target).touch()
    mount(path, target, None, MS_BIND | MS_REC)


@cache
def places() -> tuple[str, ...]:
    """What a box may read: Python, its libraries, the course without its checks and its grader, and the course's data."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, "/usr", ""}
    found = {f"{prefix}/{folder}" for prefix in prefixes for folder in ("lib", "lib64")}
    found |= {os.path.abspath(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")}
    found |= {"/etc/ld.so.cache", "/dev/null", "/dev/zero", "/dev/urandom", str(PACKAGE.parent / "data")}
    private = {"__pycache__", "grader", "checks"}
    found |= {str(path) for path in PACKAGE.iterdir() if path.name not in private}
    found |= {str(PACKAGE / "checks" / name) for name in ("__init__.py", "spec.py", "progress.py")}
    there = sorted(path for path in found if os.path.exists(path))
    return tuple(path for path in there if not any(path.startswith(other + "/") for other in there))


def drop_capabilities() -> None:
    """A new user namespace hands out all capabilities; with them a read-only tree can be undone."""
    for capability in range(64):
        try:
            prctl(PR_CAPBSET_DROP, capability)
        except OSError:  # past the last one, or this process has none to give away
            break
    prctl(PR_CAP_AMBIENT, 4)  # clear all
    header, nothing = struct.pack("Ii", 0x20080522, 0), bytes(24)
    call("capset", header, nothing)


# ---------------------------------------------------------------------------------------------------------- Landlock

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
MAKE_CHAR, MAKE_BLOCK, REFER, TRUNCATE, IOCTL_DEV = 1 << 6, 1 << 11, 1 << 13, 1 << 14, 1 << 15
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on all machines


def landlock_version() -> int:
    return libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)


def landlock(work: str, *, signals: bool) -> None:
    """From now on only the listed places can be read, and only `work` be written; no other program can be started."""
    version = landlock_version()
    rights = (1 << 13) - 1 | (REFER if version >= 2 else 0) | (TRUNCATE if version >= 3 else 0)
    rights |= IOCTL_DEV if version >= 5 else 0
    scopes = 3 if signals else 0  # abstract sockets, signals
    attributes = struct.pack("3Q", rights, 3 if version >= 4 else 0, scopes)[: 24 if scopes else 16 if version >= 4 else 8]
    rules = call("syscall", CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), 0)
    allow(rules, work, rights & ~(EXECUTE | MAKE_CHAR | MAKE_BLOCK | IOCTL_DEV))
    for path in places():
        allow(rules, path, READ_FILE | (READ_DIR if os.path.isdir(path) else 0))
    allow(rules, "/dev/null", READ_FILE | WRITE_FILE)
    allow(rules, str(PACKAGE), READ_DIR)  # Python lists a folder before it imports from there
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    call("syscall", RESTRICT_SELF, rules, 0)
    os.close(rules)


def allow(rules: int, path: str, rights: int) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    call("syscall", ADD_RULE, rules, 1, struct.pack("=Qi", rights, place), 0)
    os.close(place)


# ----------------------------------------------------------------------------------------------------------- seccomp

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
CLONE, CLONE3 = (56, 220), 435
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # where the kernel puts them
KILL, FAIL, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
EPERM, ENOSYS = 1, 38


def table(text: str) -> dict[str, int]:
    """The numbers of system calls on this machine, by name."""
    column, words = MACHINES[platform.machine()][0], text.split()
    rows = zip(words[::3], zip(words[1::3], words[2::3], strict=True), strict=True)
    return {name: int(numbers[column]) for name, numbers in rows if numbers[column] != "-"}


def number_of(name: str) -> int:
    return table(REFUSED)[name]


def program(*, strict: bool) -> list[tuple[int, int, int, int]]:
    """The filter as instructions (code, jump if true, jump if false, value): all calls are allowed but these."""
    column, architecture = MACHINES[platform.machine()]
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    if column == 0:
        steps += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]  # the calls of another architecture
    numbers = [*table(REFUSED).values(), *(table(STRICT).values() if strict else ())]
    for number, error in [*((number, EPERM) for number in numbers), (CLONE3, ENOSYS)]:  # without clone3, clone is used
        steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, FAIL | error)]
    steps += [(EQUAL, 0, 3, CLONE[column]), (LOAD, 0, 0, FIRST_ARGUMENT)]
    steps += [(ANY_BIT, 0, 1, NAMESPACES | NEWUSER | NEWCGROUP), (RETURN, 0, 0, FAIL | EPERM)]
    return [*steps, (RETURN, 0, 0, ALLOW)]


def load_filter(*, strict: bool) -> None:
    steps = program(strict=strict)
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    whole = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(code))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    call("prctl", PR_SET_SECCOMP, ctypes.c_ulong(2), whole, ctypes.c_ulong(0), ctypes.c_ulong(0))


# ------------------------------------------------------------------------------------------------------------ limits


def limits_of(plan: Plan) -> dict[int, tuple[int, int]]:
    """The limits of the box by kind; memory is relative to now, since importing torch takes up to 4 GB of address space."""
    if "RL" not in plan.layers:
        return {}
    limits = {"CORE": 0, "FSIZE": FILE_SIZE, "NOFILE": FILES, "CPU": plan.seconds}
    if LINUX:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        others = 0 if "NS" in plan.layers else processes_of(plan.uid)
        limits |= {"NPROC": PROCESSES + others, "DATA": MEMORY, "AS": size + MEMORY}
    found = {}
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        found[kind] = (value, value)
    return found


def processes_of(uid: int) -> int:
    """How many threads this user runs already; the kernel counts them against the limit."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            count += len(list((folder / "task").iterdir())) if folder.stat().st_uid == uid else 0
        except OSError:
            continue
    return count


# ------------------------------------------------------------------------------------------------------------- proof


@dataclass(frozen=True)
class Trial:
    """What a process in a box tries its hands on: a port that listens, a secret file, a process outside."""

    port: int
    secret: str
    outside: int


def network(trial: Trial) -> None:
    with socket.create_connection(("127.0.0.1", trial.port), timeout=2):
        pass


def many_files() -> None:
    for number in range(WORK_FILES + 100):
        Path(f"file-{number}").touch()


def many_processes() -> None:
    children: list[int] = []
    try:
        for _ in range(2 * PROCESSES):
            children.append(os.fork())
            if not children[-1]:
                signal.pause()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def shared_segment() -> None:
    call("shmget", 0, ctypes.c_size_t(4096), 0o1600)


def make_writable() -> None:
    mount_setattr("/", 0, 0, MOUNT_ATTR_RDONLY)


Act = Callable[[], object]


def acts(layer: str, trial: Trial) -> dict[str, Act]:
    """What a box with `layer` must refuse, by name."""
    module = str(PACKAGE / "__init__.py")
    tried: dict[str, dict[str, Act]] = {
        "NS": {
            "connecting to a port of the machine": lambda: network(trial),
            "a signal to a process outside": lambda: os.kill(trial.outside, 0),
            "seeing a file outside": lambda: os.stat(trial.secret),
        },
        "RO": {"a new time for a file": lambda: os.utime(module), "a new folder": lambda: os.mkdir("/new")},
        "TMP": {"a file of 48 MB": lambda: Path("big").write_bytes(bytes(48 * 10**6)), "thousands of files": many_files},
        "UID": {
            "reading a file of the grader's user": lambda: Path(trial.secret).read_bytes(),
            "a signal to a process of the grader's user": lambda: os.kill(trial.outside, 0),
        },
        "CAP": {"making the tree writable": make_writable, "a mount": lambda: mount("new", os.getcwd(), "tmpfs", 0)},
        "LL": {
            "reading a file that is not listed": lambda: Path(trial.secret).read_bytes(),
            "writing beside the work folder": lambda: Path(trial.secret).with_suffix(".new").touch(),
            "starting a program": lambda: os.posix_spawn("/bin/true", ["true"], {}),
        },
        "SIG": {"a signal to a process outside": lambda: os.kill(trial.outside, 0)},
        "SC": {
            "a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "a user namespace": lambda: call("unshare", NEWUSER),
            "shared memory": shared_segment,
        },
        "RL": {
            "8 GiB of memory": lambda: mmap.mmap(-1, 8 * GIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS),
            "8 GiB of shared memory": lambda: mmap.mmap(-1, 8 * GIB),
            "a file of 48 MB": lambda: Path("big").write_bytes(bytes(48 * 10**6)),
            **({"dozens of processes": many_processes} if os.getuid() else {}),
        },
    }
    return tried[layer]


def succeeded(act: Act) -> bool:
    try:
        act()
    except (OSError, MemoryError):
        return False
    return True


def needed(layer: str) -> frozenset[str]:
    """The layer with those that it cannot do without."""
    of_root = {"UID"} if layer == "RL" and is_root() else set()  # the number of processes of root is not limited
    return frozenset({layer, *NEEDS.get(layer, ()), *of_root})


@contextmanager
def trial(folder: str) -> Iterator[Trial]:
    secret = Path(folder).with_suffix(".secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        secret.write_text("nobody reads this")
        secret.chmod(0o600)
        try:
            yield Trial(server.getsockname()[1], str(secret), os.getpid())
        finally:
            secret.unlink()
            secret.with_suffix(".new").unlink(missing_ok=True)


def allowed(plan: Plan, layers: Iterable[str], what: Trial, *, usable: bool = False) -> str:
    """What a box made by `plan` allows although `layers` should refuse it, or why there is no such box; else nothing."""
    reader, writer = os.pipe()

    def body() -> None:
        if usable:  # else no answer could import a thing
            open(os.__file__, "rb").close()
        found = [name for layer in layers for name, act in acts(layer, what).items() if succeeded(act)]
        os.write(writer, "; ".join(["tried", *found]).encode())

    keeper = fork_box(plan, reported(body, writer))
    os.close(writer)
    with open(reader, "rb") as stream:
        said = stream.read().decode(errors="replace")
    os.waitpid(keeper, 0)
    head, _, found = said.partition("; ")
    return found and f"it allows {found}" if head == "tried" else said or "its process ended while it tried"


def reported(body: Callable[[], None], writer: int) -> Callable[[], None]:
    def run() -> None:
        try:
            body()
        except OSError as error:
            os.write(writer, f"no box: {error}".encode())

    return run


def prove(folder: str) -> dict[str, str]:
    """For each layer the reason why it does not work on this machine, or nothing: each is tried in a box that has only it."""
    found: dict[str, str] = {}
    with trial(folder) as what:
        for layer in LAYERS:
            lacking = [other for other in sorted(needed(layer) - {layer}) if found.get(other)]
            found[layer] = f"needs {', '.join(lacking)}" if lacking else prove_one(layer, folder, what)
    return found


def prove_one(layer: str, folder: str, what: Trial) -> str:
    if not LINUX or platform.machine() not in MACHINES:
        return "only on Linux, on x86_64 and aarch64"
    if layer == "UID" and not is_root():
        return "needs root"
    plan = Plan(needed(layer), folder, user_for(os.getpid()), seconds=20)
    return allowed(plan, [layer], what)


def level_of(layers: Iterable[str]) -> str:
    """The level that these working layers amount to."""
    works = set(layers)
    if works >= {"NS", "RO", "TMP", "CAP", "LL", "SC", "RL"}:
        return "full"
    return "basic" if works >= {"SC", "RL"} and ("UID" in works or works >= {"LL", "SIG"}) else "none"


def working(level: str, found: dict[str, str], folder: str) -> tuple[frozenset[str], str]:
    """The layers of `level` that work here, proved once more all together, and what is wrong if they do not amount to it."""
    layers = frozenset(layer for layer in LEVELS[level] if not found[layer])
    if list(LEVELS).index(level_of(layers)) > list(LEVELS).index(level):
        lacking = [f"{layer} ({found[layer]})" for layer in LAYERS if layer in LEVELS[level] and found[layer]]
        return layers, f"isolation {level!r} needs layers that do not work here: {', '.join(lacking)}"
    with trial(folder) as what:
        plan = Plan(layers, folder, user_for(os.getpid()), seconds=20)
        wrong = allowed(plan, [layer for layer in LAYERS if layer in layers], what, usable=True)
    return layers, f"the layers {sorted(layers)} do not work together: {wrong}" if wrong else ""


@dataclass(frozen=True)
class Fact:
    """One layer on this machine: whether it works, and if not, why and what can be done."""

    layer: str
    works: bool
    why: str
    advice: str


ADVICE = {
    "NS": "allow user namespaces (Ubuntu: `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`), or grade as root",
    "UID": "only for root; without it the other layers are enough",
    "LL": "a kernel from 5.13 on with Landlock (`cat /sys/kernel/security/lsm` names it)",
    "SIG": "a kernel from 6.12 on; NS does the same",
    "SC": "Linux on x86_64 or aarch64; on Windows use WSL 2, on macOS Docker",
}


def facts() -> list[Fact]:
    """What `course grade --doctor` shows: every layer, tried on this machine."""
    with work_folder() as folder:
        found = prove(folder)
    return [Fact(layer, not found[layer], found[layer], ADVICE.get(layer, "") if found[layer] else "") for layer in LAYERS]
