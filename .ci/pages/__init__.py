"""What the generated pages of docs/ are made of, a module for each kind of source."""
