"""The queues that ours is measured beside, a module each, which runs in an environment of its own."""
