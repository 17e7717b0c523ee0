"""Kernels: what is no matrix product, as loops that Numba compiles. One noun a file."""
