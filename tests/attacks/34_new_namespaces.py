# 34. New namespaces would bring back all capabilities. Threads still start.
# expect 03.3 failed
# prints done: \[\], thread: True

# %% 03.3
import ctypes
import threading

libc = ctypes.CDLL(None, use_errno=True)
NEW = {"user": 0x10000000, "mount": 0x00020000, "net": 0x40000000, "pid": 0x20000000}
done = [f"unshare {name}" for name, flag in NEW.items() if libc.unshare(flag) == 0]
for name, flag in NEW.items():
    child = libc.syscall(56, flag | 17, 0, 0, 0, 0)  # clone, like fork
    if child == 0:
        libc._exit(0)
    if child > 0:
        done.append(f"clone {name}")
if libc.syscall(435, 0, 0) >= 0 or ctypes.get_errno() != 38:
    done.append(f"clone3 {ctypes.get_errno()}")
ran = []
thread = threading.Thread(target=lambda: ran.append(True))
thread.start()
thread.join()
print(f"done: {done}, thread: {bool(ran)}")


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
