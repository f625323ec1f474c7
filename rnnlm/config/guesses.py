"""What is meant by a key that there is not: other programs' names for it, or the nearest spelling."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

# Key -> its names elsewhere; keys that this version does not have are passed over
USUAL: Mapping[str, tuple[str, ...]] = {
    "data.path": ("text", "file", "input", "input_file", "corpus", "dataset", "data_dir"),
    "data.level": ("tokenizer", "tokens", "symbols"),
    "data.val_fraction": ("val", "valid", "validation", "val_frac", "val_split", "val_size"),
    "data.test_fraction": ("test", "test_frac", "test_split", "test_size"),
    "model.kind": ("model", "architecture", "arch"),
    "model.cell": ("cell_type", "rnn_type", "rnn"),
    "model.hidden_size": ("hidden", "hidden_dim", "hidden_units", "units", "nhid", "rnn_size", "width"),
    "model.num_layers": ("layers", "n_layers", "nlayers", "layer", "depth"),
    "model.embedding_size": ("embedding", "embed", "emb", "embedding_dim", "embed_dim", "emsize"),
    "model.dropout": ("drop", "dropout_rate", "dropout_p", "p_dropout"),
    "model.order": ("n", "ngram", "ngram_order"),
    "train.epochs": ("epoch", "num_epochs", "n_epochs", "max_epochs", "passes"),
    "train.max_steps": ("steps", "num_steps", "iterations", "iters", "max_iters", "max_iter"),
    "train.max_minutes": ("minutes", "time_limit", "max_time"),
    "train.batch_size": ("batch", "bs", "batchsize", "minibatch"),
    "train.seq_length": ("seq", "seq_len", "sequence_length", "bptt", "block_size"),
    "train.optimizer": ("optim", "optimiser", "opt"),
    "train.optimizer.learning_rate": ("lr", "rate", "learningrate", "step_size", "alpha"),
    "train.optimizer.weight_decay": ("wd", "l2"),
    "train.optimizer.epsilon": ("eps",),
    "train.schedule": ("scheduler", "lr_schedule", "lr_scheduler", "lr_decay"),
    "train.schedule.warmup_steps": ("warmup",),
    "train.schedule.factor": ("gamma",),
    "train.average.decay": ("ema_decay",),
    "train.grad_clip.norm": ("clip", "clipping", "max_norm", "max_grad_norm", "clip_norm", "grad_norm"),
    "train.eval_every": ("eval_interval", "val_every", "validate_every"),
    "train.checkpoint_every": ("save_every", "save_interval", "checkpoint_interval"),
    "train.log_every": ("log_interval", "print_every"),
    "train.sample_every": ("sample_interval",),
    "train.patience": ("early_stopping", "early_stop"),
    "train.seed": ("random_seed", "random_state"),
    "train.threads": ("workers", "num_workers", "n_jobs", "jobs", "num_threads", "cores", "cpus"),
    "run.dir": ("out", "output", "out_dir", "output_dir", "run_dir", "save_dir", "checkpoint_dir"),
}  # fmt: skip
KEY_OF = {name: key for key, names in USUAL.items() for name in names}
NEAR = 0.6
LONG = 5  # letters: a shorter name elsewhere is near to too much


def meant(typed: str, valid: Iterable[str], nearly: bool = True) -> str | None:
    """The valid key that what was typed stands for, with or without section; None where there is none.

    A key's own last part comes first, then other programs' names for it, then, with `nearly`, the
    nearest spelling of any.
    """
    keys = list(valid)
    plain = typed.strip().lower().replace("-", "_")
    last = plain.rsplit(".", 1)[-1]
    own = {key.rsplit(".", 1)[-1]: key for key in reversed(keys)}
    for key in (plain, own.get(last), KEY_OF.get(last)):
        if key in keys:
            return key
    if not nearly:
        return None
    usual = {name: key for name, key in KEY_OF.items() if key in keys and len(name) >= LONG}
    whole = {f"{key.split('.')[0]}.{name}": key for name, key in usual.items()}
    for misspelt, known in (plain, whole | {key: key for key in keys}), (last, usual | own):
        if near := difflib.get_close_matches(misspelt, known, 1, NEAR):
            return known[near[0]]
    return None
