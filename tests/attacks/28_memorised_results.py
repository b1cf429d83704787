# 28. The results shown in the notebook, written down. The questions of a run are new ones.
# expect 00.1 failed

# %% 00.1
def top_classes(scores, classes, k):
    return [[("cat", 0.71), ("dog", 0.2)] for _ in range(len(scores))]
