"""Promptreel beside what people would pick instead: the same work, the same machine, the same run."""
