"""The daemon on the GPU instance: takes jobs from Redis, streams them through vLLM, keeps the replies in S3."""
