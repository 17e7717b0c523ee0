"""The short-time spectrum that every spectral measure of this package looks at, and which of its frames count."""

import torch
from torch import Tensor


def spectrogram(signal: Tensor, n_fft: int, hop: int) -> Tensor:
    """Transform Hann-windowed frames centred on samples 0, hop, 2 hop and so on.

    Outside the signal there is silence. A sine of amplitude 1 in the middle of a bin has magnitude 1 there; the window
    gives the two bins beside it half of that. Phases are those of the frame's first sample.

    Args:
        signal: float32 or float64.
        n_fft: samples under the window.
        hop: samples from frame to frame.

    Shape:    signal [*, T] -> [*, ceil(T / hop), n_fft // 2 + 1], complex
    Units:    amplitude re a full-scale sine
    Raises:   ValueError for n_fft below 2 and hop below 1.
    Example:
        >>> spectrogram(torch.zeros(2, 1000), n_fft=256, hop=100).shape
        torch.Size([2, 10, 129])
    """
    check_frames(n_fft, hop)
    window = torch.hann_window(n_fft, dtype=signal.dtype, device=signal.device)
    window = window / (window.sum() / 2.0)
    flat = signal.reshape(-1, signal.shape[-1])
    spectrum = torch.stft(flat, n_fft, hop, window=window, center=True, pad_mode="constant", return_complex=True)
    n_frames = -(-signal.shape[-1] // hop)
    return spectrum[..., :n_frames].transpose(-1, -2).reshape(*signal.shape[:-1], n_frames, -1)


def power(spectrum: Tensor) -> Tensor:
    """Square the magnitude of complex values, with a gradient that is finite everywhere.

    Example:
        >>> power(torch.tensor([3.0 + 4.0j]))
        tensor([25.])
    """
    real, imaginary = torch.view_as_real(spectrum).unbind(dim=-1)
    return real.square() + imaginary.square()  # faster than a sum over two values


def power_spectrogram(signal: Tensor, n_fft: int, hop: int) -> Tensor:
    """Measure power per bin in the frames of `spectrogram`.

    Args, Shape: as `spectrogram`, but real.
    Units:    power re a full-scale sine
    Example:
        >>> tone = torch.sin(2.0 * torch.pi * 8 * torch.arange(1024) / 64)
        >>> round(power_spectrogram(tone, n_fft=64, hop=64)[5, 8].item(), 4)
        1.0
    """
    return power(spectrogram(signal, n_fft, hop))


def root(x: Tensor) -> Tensor:
    """Take the square root, with a gradient at 0 that is 0, not infinite.

    Example:
        >>> root(torch.tensor([0.0, 9.0]))
        tensor([0., 3.])
    """
    positive = x > 0
    return torch.where(positive, x, torch.ones_like(x)).sqrt() * positive


def frames_that_count(valid: Tensor | None, hop: int) -> Tensor | None:
    """Say which frames count: those whose centre does, so that padding at the end changes nothing.

    Shape:    valid [*, T] -> [*, ceil(T / hop)]; None stays None
    Example:
        >>> frames_that_count(torch.tensor([True, True, True, False, False]), 2)
        tensor([ True,  True, False])
    """
    return None if valid is None else valid[..., ::hop]


def check_frames(n_fft: int, hop: int) -> None:
    """Refuse a window below 2 samples and a hop below 1.

    Raises:   ValueError naming the one that is wrong.
    """
    if n_fft < 2:
        raise ValueError(f"n_fft = {n_fft} samples, allowed 2 or more")
    if hop < 1:
        raise ValueError(f"hop = {hop} samples, allowed 1 or more")
