"""A program per connection."""
