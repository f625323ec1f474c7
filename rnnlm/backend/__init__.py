"""What models compute with: parameters, buffers, recorded calls, BLAS, workers, random numbers."""
