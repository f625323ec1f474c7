"""What a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..inference.evaluation import perplexity
from ..runs.checkpoint import Checkpoint
from ..text.vocabulary import Vocabulary
from ..wording import counted, share, wrapped

WIDTH = 80  # of lines that are lists


def facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds, as JSON can hold it: a perplexity beyond float range is None."""
    p, vocabulary = checkpoint.progress, checkpoint.vocabulary
    unknown = vocabulary.unknown_id
    losses = {"training": p.train_loss, "validation": p.val_loss, "best": p.best_loss}
    return {
        "checkpoint": None if checkpoint.path is None else str(checkpoint.path),
        "model": checkpoint.model.describe(checkpoint.params),
        "params_sha256": checkpoint.params_sha256,
        "symbol": checkpoint.format.noun,
        "symbols": len(vocabulary),
        "vocabulary": excerpt(vocabulary),
        "unknown": None if unknown is None else int(checkpoint.counts[unknown]),
        "step": p.step,
        "epoch": p.epoch,
        "seconds": p.seconds,
        "losses": {
            name: {"nats_per_symbol": loss, "perplexity": perplexity(loss)}
            for name, loss in losses.items()
            if loss is not None
        },
        "best_step": p.best_step,
        "data": dict(checkpoint.data),
        "origin": dict(checkpoint.origin),
        "environments": [dict(entries) for entries in checkpoint.environments],
        "config": checkpoint.config.to_dict(),
    }


def describe(checkpoint: Checkpoint) -> Iterator[str]:
    """Lines that say what a checkpoint holds."""
    told = facts(checkpoint)
    noun = told["symbol"]
    yield from f"model: {told['model']}".splitlines()
    yield f"params SHA-256: {told['params_sha256']}"
    yield f"vocabulary: {counted(told['symbols'], noun)}: {told['vocabulary']}"
    if told["unknown"] is not None:
        trained = int(checkpoint.counts.sum())
        yield f"training: {share(told['unknown'], trained, noun)} are <unk>"
    yield (
        f"position: step {told['step']:,}, epoch {told['epoch']:.4g}, "
        f"{told['seconds']:,.0f} s of training"
    )
    for name, loss in told["losses"].items():
        figure = loss["perplexity"]
        ratio = "beyond float range" if figure is None else f"{figure:.4f}"
        at = f" at step {told['best_step']:,}" if name == "best" else ""
        yield f"{name} loss: {loss['nats_per_symbol']:.4f} nats per {noun}, perplexity {ratio}{at}"
    if data := told["data"]:
        yield f"data: {data['folder']} ({data['fingerprint'][:16]})"
    if begun := told["origin"]:
        yield f"began with: {begun['checkpoint']} ({begun['params_sha256'][:16]})"
    for entries in told["environments"]:
        said = ", ".join(f"{name} {value}" for name, value in entries.items())
        yield from wrapped(f"computed by: {said}", WIDTH, others="  ")
    yield "config:"
    yield from ("  " + line for line in checkpoint.config.to_yaml().splitlines())


def excerpt(vocabulary: Vocabulary, most: int = 100) -> str:
    """The first symbols of a vocabulary, printable."""
    shown = vocabulary.text(range(min(most, len(vocabulary))))
    return repr(shown[:most])[1:-1] + (" ..." if max(len(vocabulary), len(shown)) > most else "")
