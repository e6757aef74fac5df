"""Each service that is measured: what it is made of, how it is set up, and on whose advice."""
