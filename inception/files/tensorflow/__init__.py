"""TensorFlow's files: both versions of a checkpoint, and frozen graphs, without TensorFlow."""
