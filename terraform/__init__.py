"""The AWS side: Terraform in the folders, and the tools beside it."""
