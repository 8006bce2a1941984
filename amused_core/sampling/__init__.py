"""The sampler of masked image models: loop, schedule, guidance, filters, randomness and measures, on tokens alone."""
