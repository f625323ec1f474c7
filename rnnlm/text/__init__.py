"""Text to ids and back: vocabularies, files, the prepared folder, batches."""
