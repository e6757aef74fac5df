"""The API reference as a page to read: written from the specification, as docs/api.md is."""
