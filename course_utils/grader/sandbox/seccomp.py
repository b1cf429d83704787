"""Seccomp (SC): a filter before every system call."""

from __future__ import annotations

import ctypes
import platform
import struct
from functools import cache

from course_utils.grader.sandbox.syscalls import (
    ALLOWED,
    ARGUED,
    MACHINES,
    NAMESPACES,
    NEWCGROUP,
    NEWUSER,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    STRICT,
    call,
    prctl,
    table,
)

NO_NAMESPACE = NAMESPACES | NEWUSER | NEWCGROUP
PLAIN = 0xFFFFFFFF & ~0x4140  # flags of sending and receiving that are refused: all but WAITALL, DONTWAIT, NOSIGNAL
RULES: dict[str, dict[int, int | tuple[int, ...]]] = {  # by argument: the bits that it must not have, or its values
    "arch_prctl": {0: (0x1021, 0x1022, 0x1023)},  # may AMX be used
    "clone": {0: NO_NAMESPACE},
    "fadvise64": {3: (0, 1, 2)},  # not: throw a file out of the cache that all share
    "fcntl": {1: (0, 1, 2, 3, 4, 1030, 1032)},  # copies, flags; no locks and leases: other boxes would see them
    "ioctl": {1: (0x5401, 0x802C542A, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451, 0x40049409)},  # terminal, flags, copy a file
    "madvise": {2: (0, 1, 2, 3, 4, 8, 10, 11, 14, 15, 16, 17, 18, 19, 22, 23, 102, 103)},  # not: share, evict pages
    "prctl": {0: (15, 16, 23, 51, 64)},  # the thread's name, capabilities, the length of vectors
    "preadv2": {5: (0,)},  # not: only what is in the cache (RWF_NOWAIT)
    "prlimit64": {0: (0,)},  # not: limits of other processes
    "pwritev2": {5: (0,)},
    "recvfrom": {3: PLAIN},
    "sendto": {3: PLAIN},
    "socketpair": {0: (1,), 1: 0xE},  # UNIX streams: a datagram could go to any address
}
NEW = 424  # calls from here on are the same on all machines; libraries do without them if the kernel does not know them
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # where the kernel puts them
KILL, FAIL, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
EPERM, ENOSYS = 1, 38


def program(*, strict: bool) -> list[tuple[int, int, int, int]]:
    """The filter as instructions (code, jump if true, jump if false, value): all calls are refused but these."""
    column, architecture = MACHINES[platform.machine()]
    steps = [(LOAD, 0, 0, ARCHITECTURE), (EQUAL, 1, 0, architecture), (RETURN, 0, 0, KILL), (LOAD, 0, 0, NUMBER)]
    if column == 0:
        steps += [(AT_LEAST, 0, 1, 0x40000000), (RETURN, 0, 0, KILL)]  # the calls of another architecture
    for name, number in table(ARGUED).items():
        block = [step for place, demand in RULES[name].items() for step in argument(place, demand)]
        steps += [(EQUAL, 0, len(block) + 1, number), *block, (RETURN, 0, 0, ALLOW)]
    for name, number in table(ALLOWED).items():
        if not strict or name not in STRICT:
            steps += [(EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    return [*steps, (AT_LEAST, 0, 1, NEW), (RETURN, 0, 0, FAIL | ENOSYS), (RETURN, 0, 0, FAIL | EPERM)]


def argument(place: int, demand: int | tuple[int, ...]) -> list[tuple[int, int, int, int]]:
    """The call fails if its argument has one of these bits, or none of these values; of 64 bits the kernel uses the low 32."""
    refuse = (RETURN, 0, 0, FAIL | EPERM)
    load = (LOAD, 0, 0, ARGUMENTS + 8 * place)
    if isinstance(demand, int):
        return [load, (ANY_BIT, 0, 1, demand), refuse]
    return [load, *((EQUAL, len(demand) - i, 0, value) for i, value in enumerate(demand)), refuse]


@cache
def packed(*, strict: bool) -> bytes:
    """The filter as the kernel reads it; whoever forks boxes has it made once."""
    return b"".join(struct.pack("HBBI", *step) for step in program(strict=strict))


def load_filter(*, strict: bool) -> None:
    code = packed(strict=strict)
    buffer = ctypes.create_string_buffer(code)
    whole = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(buffer))
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    call("prctl", PR_SET_SECCOMP, ctypes.c_ulong(2), whole, ctypes.c_ulong(0), ctypes.c_ulong(0))
