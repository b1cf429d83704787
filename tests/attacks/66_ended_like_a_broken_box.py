# 66. The process ends as a box does that could not be made: will the grader take the blame, and nobody get a grade?
# A box says itself when it is made; how it ends after that is the answer's own doing.
# expect 03.3 error: it ended its process

# %% 03.3
import os

os._exit(70)
