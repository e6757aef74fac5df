"""The stages of a render: plan, keyframes, generation, stitch; upload is the consumer's."""
