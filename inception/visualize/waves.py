"""Pictures as the waves that they are made of, in colours that vary by themselves: what an ascent moves.

Pixels of photographs hang together, in place and in colour, so that the steepest way for single pixels leads to fine
glaring noise. Here the ascent moves the amplitudes of waves, each scaled as photographs have it (by 1 / frequency), in
three axes of colour that are nearly independent in photographs; a logistic curve keeps the pixels within their range.
After Olah, Mordvintsev and Schubert, "Feature Visualization" (Distill 2017); the axes are those of Ohta, Kanade and
Sakai, "Color Information for Region Segmentation" (1980): brightness, red to blue, green to magenta.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inception.pictures import Picture
from inception.visualize.gradient import Gradient

_AXES = np.array([[1, 1, 1], [1, 0, -1], [-0.5, 1, -0.5]], np.float32)  # each a row of red, green, blue
_STRENGTHS = np.array([1.0, 0.5, 0.3], np.float32)  # of the axes in photographs, about
_COLOURS = (_AXES / np.linalg.norm(_AXES, axis=1, keepdims=True)) * _STRENGTHS[:, None]
_FIRST = 0.02  # of the amplitudes of the first picture
_CONTRAST = 1.1  # deviation at most of what the logistic curve takes: colours stay short of their ends
_ADAM = (0.9, 0.99)
_QUARTER = 0.25  # of the slowest wave's height, an amplitude of 1: so that steps of 0.05 are small


def climb(
    slope: Gradient, channels: np.ndarray, span: Picture, size: int, steps: int, rate: float, seeds: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures that excite channels, climbed by Adam from faint noise of each channel's own.

    Returns:
        Images in the network's range [n, size, size, 3], the losses on the way [n, steps + 1], and which channels
        never had a gradient.
    """
    low, high = span.limits
    noise = np.stack([np.random.default_rng([*seeds, int(c)]).normal(0, _FIRST, (size, size, 3)) for c in channels])
    amplitudes = np.fft.rfft2(noise, axes=(1, 2), norm="ortho").astype(np.complex64)
    scale = _scale(size)
    mean, square = np.zeros_like(amplitudes), np.zeros((*amplitudes.shape, 2), np.float32)
    flat, losses = np.ones(len(channels), bool), []
    for step in range(steps + 1):
        values = np.fft.irfft2(amplitudes * scale, s=(size, size), axes=(1, 2), norm="ortho") @ _COLOURS
        too_much = np.maximum(values.std(axis=(1, 2, 3), keepdims=True) / _CONTRAST, 1)
        values, amplitudes = values / too_much, amplitudes / too_much.astype(np.float32)
        pixels = 1 / (1 + np.exp(-values))
        images = (low + pixels * (high - low)).astype(np.float32)
        loss, slopes = slope(images, channels)
        losses.append(loss)
        if step == steps:
            break
        flat &= ~slopes.any(axis=(1, 2, 3))
        towards = (slopes * (high - low) * pixels * (1 - pixels)) @ _COLOURS.T
        gradient = (np.fft.rfft2(towards, axes=(1, 2), norm="ortho") * scale).astype(np.complex64)
        gradient /= np.maximum(np.abs(gradient).max(axis=(1, 2, 3), keepdims=True), np.finfo(np.float32).tiny)
        mean = _ADAM[0] * mean + (1 - _ADAM[0]) * gradient
        parts = np.stack([gradient.real, gradient.imag], -1)
        square = _ADAM[1] * square + (1 - _ADAM[1]) * np.square(parts)
        spread = np.sqrt(square / (1 - _ADAM[1] ** (step + 1))) + 1e-8
        now = mean / (1 - _ADAM[0] ** (step + 1))
        amplitudes = amplitudes + rate * (now.real / spread[..., 0] + 1j * (now.imag / spread[..., 1]))
    return images, np.stack(losses, axis=1), flat


def _scale(size: int) -> np.ndarray:
    """What each wave weighs: 1 / frequency, the slowest as much as one that fits the picture; [h, w // 2 + 1, 1]."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    return (_QUARTER / np.maximum(frequency, 1 / size))[:, :, None].astype(np.float32)
