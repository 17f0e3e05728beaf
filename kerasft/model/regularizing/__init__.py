"""What holds a network back while it trains."""
