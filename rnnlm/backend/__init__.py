"""The ground: flat parameter vectors, buffers, recorded calls, BLAS, workers, random numbers."""
