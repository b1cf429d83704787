"""`course bench`: the same training with each library side by side, and the least that it could cost.

    course bench                          every job with every contestant that is installed
    course bench --quick                  small, ours and the plain loop only
    course bench --jobs head sweep --contestants reuse lightning --repeats 3 --json result.json

**Jobs** fine-tune our pretrained networks on drawn pictures, which lie as PNG files in class folders. **Contestants** all get
the same pictures through the same `ImageFolder` and transform, the same starting weights and new head, the same optimizer
(SGD, momentum 0.9), rate, batch size, epochs and validations, the same number of threads and no worker processes; the
others run without logger, checkpoint and progress bar. Each is one file in `contestants/` with a function `train(task)`
that returns the validation accuracy at the end; what stands after a + in a name is a variant in the same file. `+bf16`
trains in mixed precision, each library in its own way, where the processor computes in bfloat16 itself (fastai's own is
for GPUs, and Keras casts no network of torch: they have none here). `pip install -r requirements-bench.txt` brings what is
missing.

**Measured** are CPU seconds (user and system, all threads) and wall seconds of the work: from the network and the loaders,
ready to use, to the last validation. Start-up (the interpreter and the imports) stands apart, since it does not grow with
the work. Every run is a new process, and contestants take turns (A B C A B C …), so that a slow minute of the machine
hits all of them. In a sweep each training is validated at its end; who has no sweep of its own does three of the fifteen,
and the seconds are scaled. The table shows medians. The **limit** is one pass over the training and validation pictures:
each read once and sent once through what is frozen, in float32, by the engine that is fastest: eager torch, torch with
folded batch norms in the best layout, onnxruntime or OpenVINO. What an engine takes to convert and compile the network is
not in its seconds, so the limit is a bound, generous to engines.

A row is **void** if the contestant failed, or its accuracy is not within 0.05 of the plain loop's (0.15 for VGG16
and 0.1 in a quick run, where few pictures make it coarse): then it did another job. An engine is void if one of its
features differs from eager torch's by more than 1e-4 of the largest.

`jobs` says what is done, `task` sets it up, `worker` measures one run, `runner` takes turns, `report` makes the table.
"""
