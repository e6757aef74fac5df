"""HTTP/3, 2 and 1.1 by Hypercorn, for the same app that granian serves."""
