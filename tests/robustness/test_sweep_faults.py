"""A sweep in processes of its own, and a signal."""

from __future__ import annotations

import signal
from pathlib import Path

from conftest import TEXT
from faults import finish, saved_step, start, wait_for

SWEEP = """\
base:
  data: {path: text.txt}
  model: {hidden_size: 4, num_layers: 1, cell: rnn}
  train: {epochs: 4000, batch_size: 16, seq_length: 32, log_every: 5}
seeds: [0, 1]
"""


def test_a_signal_to_the_process_that_leads_stops_those_that_train(in_tmp: Path) -> None:
    """They save, and the last line says how to go on."""
    Path("text.txt").write_text(TEXT[:4000])
    Path("sweep.yaml").write_text(SWEEP)
    process = start("sweep", "sweep.yaml", "--workers", 1, "--out", "out")
    run = Path("out/base-seed=0")
    assert wait_for(lambda: (run / "best.npz").exists(), process)
    process.send_signal(signal.SIGTERM)
    code, out, err = finish(process)
    assert (code, out) == (128 + signal.SIGTERM, "")
    assert err.endswith("stopped, 2 runs to do; to go on: rnnlm sweep sweep.yaml --out out\n")
    assert saved_step(run) > 0
