"""Wan on this machine: loading, denoising, decoding, video encoding. The only home of torch."""
