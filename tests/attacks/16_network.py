# 16. All ways out: TCP, UDP, names, abstract sockets, netlink.
# expect 03.3 failed
# prints open: \[\]

# %% 03.3
import socket

DOORS = {
    "tcp": lambda: socket.create_connection(("127.0.0.1", 22), timeout=1),
    "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"hello", ("127.0.0.1", 53)),
    "ipv6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).sendto(b"hello", ("::1", 53)),
    "names": lambda: socket.gethostbyname("example.org"),
    "unix": lambda: socket.socket(socket.AF_UNIX).bind("\0door"),
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW),
}
doors = []
for name, door in DOORS.items():
    try:
        door()
        doors.append(name)
    except OSError:
        pass
print("open:", doors)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
