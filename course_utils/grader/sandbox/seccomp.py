"""Seccomp (SC): a filter before every system call."""

from __future__ import annotations

import ctypes
import platform
import struct

from course_utils.grader.sandbox.syscalls import (
    MACHINES,
    NAMESPACES,
    NEWCGROUP,
    NEWUSER,
    PR_SET_NO_NEW_PRIVS,
    PR_SET_SECCOMP,
    REFUSED,
    STRICT,
    call,
    prctl,
    table,
)

CLONE, CLONE3 = (56, 220), 435
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16  # where the kernel puts them
KILL, FAIL, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
EPERM, ENOSYS = 1, 38


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
