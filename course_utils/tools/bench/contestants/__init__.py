"""One file for each contestant, with `train(task)`, and `sweep(task)` if it has something better than one after the other."""
