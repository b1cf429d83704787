"""Grading other people's notebooks: their code gives evidence in a sandbox, a process that never runs it decides.

    notebook                                        hidden checks, seed
       │ bytes                                            │
     intake ──── text of the answers ────► grading ◄── probes             trusted: runs no learner's code
                                             │  ▲
                 text of answers and probes, │  │ frames of plain data,
                 a number for each case      ▼  │ and what was printed
    ═══════════════════════════════════════ client ══════════════════════ the wall
                                             │  ▲
                                   worker: server ─fork─► keeper ─fork─► box    untrusted: the answer, and the probe beside it
                                          in all layers of the sandbox
    evidence ──► scoring ──► records: a report for the learner, notes for the instructor ──► output

What crosses the wall inwards is text and numbers, never a judge and never a key. What comes out is frames of `worker.protocol`:
numbers, texts, lists, dictionaries, tensors, each checked before it is used.
"""
