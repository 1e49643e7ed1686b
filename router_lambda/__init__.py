"""Every Lambda handler, and the one definition of a job."""
