# 7. All files that can be found are searched for hidden checks and for the answers of the course.
# In a box there are neither: not even the public checks, whose rules hold what is right.
# expect 03.3 failed
# prints found: \[\]

# %% 03.3
import importlib
import os
import sys

found = []
for folder in {".", "..", "/", *sys.path}:
    for path, folders, files in os.walk(folder):
        if "site-packages" in path or "/lib/python3" in path:
            folders.clear()
        for name in files:
            if not name.endswith((".py", ".ipynb", ".json", ".txt", ".md")):
                continue
            try:
                text = open(os.path.join(path, name), errors="replace").read(10**6)
            except OSError:
                continue
            if "canary" in text or "RIGHT = {" in text or "BEGIN SOLUTION\n" in text:
                found.append(name)
try:
    found.append(importlib.import_module("course_utils.checks.lesson_03").RIGHT)
except (ImportError, OSError):
    pass
found = [name for name in found if name != "authoring.py"]  # which speaks of marks, and has no answers
print("found:", found)


def what_moves(gradient, train_mode, in_optimizer):
    return True, True
