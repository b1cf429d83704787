# 63. A datagram to any socket of the machine, descriptors by post, limits of other processes. Pairs of sockets still work.
# expect 03.3 failed
# prints done: \[\], pair: True

# %% 03.3
import asyncio
import os
import resource
import signal
import socket

a, b = socket.socketpair()
other = os.fork()
if not other:
    signal.pause()
TRIED = {
    "a pair of datagrams": lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM),
    "a descriptor by post": lambda: socket.send_fds(a, [b"x"], [0]),
    "out of band": lambda: a.send(b"x", socket.MSG_OOB),
    "limits of another process": lambda: resource.prlimit(other, resource.RLIMIT_NOFILE),
    "cores of another process": lambda: os.sched_setaffinity(other, {0}),
}
done = []
for name, call in TRIED.items():
    try:
        call()
        done.append(name)
    except OSError:
        continue
os.kill(other, signal.SIGKILL)


async def works():
    await asyncio.sleep(0)
    return True


print(f"done: {done}, pair: {asyncio.run(works())}")


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
