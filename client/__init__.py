"""The headless client: posts a prompt and follows its reply object while it grows."""
