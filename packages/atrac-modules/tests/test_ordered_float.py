from __future__ import annotations

import ctypes.util
import platform

import numpy as np
import pytest
import torch

from atrac_modules.ordered_float import fft, fft_twiddles, log10f, running_sum, sqrt32


@pytest.mark.parametrize("n", [16, 64, 128])
def test_fft_is_a_fourier_transform(n: int, generator):
    real, imaginary = torch.randn(2, 5, n, generator=generator)
    got = torch.complex(*fft(real, imaginary, torch.from_numpy(fft_twiddles(n))))
    want = torch.fft.fft(torch.complex(real.double(), imaginary.double()))
    torch.testing.assert_close(got.to(torch.complex128), want, rtol=0, atol=2e-5)


def test_running_sum_adds_one_after_the_other(generator):
    x = torch.rand(20, 52, generator=generator) * 10.0 ** torch.randint(-6, 6, (20, 52), generator=generator)
    assert torch.equal(running_sum(x), torch.from_numpy(np.add.accumulate(x.numpy(), axis=1)[:, -1]))


def test_sqrt32_is_correctly_rounded(generator):
    x = torch.rand(10_000, generator=generator)
    assert torch.equal(sqrt32(x), torch.from_numpy(np.sqrt(x.numpy().astype(np.longdouble)).astype(np.float32)))


def test_log10f_is_a_logarithm_and_exact_at_1_and_0():
    x = torch.logspace(-30, 3, 5000)
    torch.testing.assert_close(log10f(x).double(), x.double().log10(), rtol=2e-7, atol=5e-8)
    assert log10f(torch.tensor([1.0, 0.0])).tolist() == [0.0, -np.inf]


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or tuple(map(int, (platform.libc_ver()[1] or "9.9").split("."))) > (2, 40),
    reason="only glibc up to 2.40 has this log10f",
)
def test_log10f_equals_the_c_librarys():
    library = ctypes.CDLL(ctypes.util.find_library("m"))
    library.log10f.restype, library.log10f.argtypes = ctypes.c_float, [ctypes.c_float]
    x = torch.logspace(-12, 3, 20_000)
    theirs = torch.tensor([library.log10f(v) for v in x.tolist()])
    assert (log10f(x) != theirs).float().mean() < 1e-3
