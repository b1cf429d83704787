# 17. Kill, trace or read the processes of the grader.
# expect 03.3 failed
# prints reached: \[\]

# %% 03.3
import ctypes
import os
import signal

libc = ctypes.CDLL(None, use_errno=True)
reached = []
me, parent = os.getpid(), os.getppid()
for process in [*range(2, 300), parent, parent - 1, parent - 2, me - 1, me - 2, me - 3]:
    if process > 1 and process != me:
        try:
            os.kill(process, signal.SIGKILL)
            reached.append(f"kill {process}")
        except OSError:
            pass
        if libc.ptrace(16, process, 0, 0) == 0:
            reached.append(f"ptrace {process}")
if libc.ptrace(0, 0, 0, 0) == 0:
    reached.append("ptrace by the parent")
if libc.process_vm_readv(parent or me, None, 0, None, 0, 0) == 0:
    reached.append("process_vm_readv")
for number in (434, 438):  # pidfd_open, pidfd_getfd
    if libc.syscall(number, parent or me, 0, 0) >= 0:
        reached.append(f"call {number}")
print("reached:", reached)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
