# 8. Other submissions, reports, home folders, the system's secrets.
# expect 03.3 failed
# prints readable: \[\]

# %% 03.3
import glob
import os

PLACES = """/etc/passwd /etc/shadow /etc/hostname /etc/hosts /etc/ssh /root /home /root/.ssh /root/.bashrc /var/log /var/lib
/var/mail /srv /opt /mnt /media /run /boot /sys /proc/1/environ /proc/self/environ /proc/self/maps /proc/kcore /dev/mem
/tmp /var/tmp /autograder ~ ../submitted ../gradebook.db ../out/reports ../../run.json""".split()
readable = []
for place in PLACES:
    for path in [place, *glob.glob(os.path.expanduser(place) + "/*")[:20]]:
        try:
            os.listdir(path) if os.path.isdir(path) else open(path).read(1)
        except OSError:
            continue
        if os.path.abspath(path) != os.getcwd() and not (path == "/root" and os.listdir(path) == [".pyenv"]):
            readable.append(path)
print("readable:", [path for path in readable if path != "~"])


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
